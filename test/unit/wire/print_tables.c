/* Prints the tables of the wire and the reply codes, for test_specification.py. */
#include "lepus/wire/method.h"
#include "lepus/wire/props.h"

static void
print_method(enum method method, const char *sender, const char *channel, const char *follows)
{
    const struct method_row *row = &method_rows[method];

    printf("method %d %d %s %s %s %s\n", row->class_id, row->method_id, row->name, sender, channel,
           follows);
}

int
main(void)
{
#define FIELD(type, field) printf("field %s %s\n", #type, #field);
#define M(class_id, method_id, name, fields, sender, channel, follows)                             \
    print_method(METHOD_##name, #sender, #channel, #follows);                                      \
    fields(FIELD)
    METHODS(M)
#undef M
#define C(id, name) printf("class %d %s\n", id, #name);
    CLASSES(C)
#undef C
#define P(name, type, bit) printf("property %d %s %s\n", bit, #type, #name);
    PROPERTIES(P)
#undef P
#define R(code, name, scope) printf("reply %d %s %s\n", code, #name, #scope);
    REPLY_CODES(R)
#undef R
    return 0;
}
