#include "crew.h"

int
main(int argc, char **argv)
{
    struct options options;
    int status;

    if (options_parse(&options, argc, argv, &status))
        status = crew_run(&options);
    options_fini(&options);
    return status;
}
