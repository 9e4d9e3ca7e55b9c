// The six patterns that people learn from RabbitMQ's tutorials, one case each.
package main

import (
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// listen binds a queue of its own to the exchange under these keys, and consumes from it.
func (t *T) listen(exchange string, keys ...string) <-chan amqp.Delivery {
	ch := t.channel()
	q, err := ch.QueueDeclare("", false, false, true, false, nil)
	t.ok(err)
	for _, key := range keys {
		t.ok(ch.QueueBind(q.Name, key, exchange, false, nil))
	}
	return t.consume(ch, q.Name, "", true)
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

var tutorials = []kase{
	{"tutorial: hello world", func(t *T) {
		send, receive := t.channel(), t.channel()
		hello := t.unique("hello")
		for _, ch := range []*amqp.Channel{send, receive} { // both sides declare it
			_, err := ch.QueueDeclare(hello, false, false, false, false, nil)
			t.ok(err)
		}
		t.ok(send.Publish("", hello, false, false,
			amqp.Publishing{ContentType: "text/plain", Body: []byte("Hello World!")}))
		d := t.deliver(t.consume(receive, hello, "", true), false, "Hello World!")
		t.same("text/plain", d.ContentType, "content-type")
		_, err := receive.QueueDelete(hello, false, false, false)
		t.ok(err)
	}},

	{"tutorial: work queues share durable tasks fairly", func(t *T) {
		boss := t.channel()
		tasks := t.unique("tasks")
		_, err := boss.QueueDeclare(tasks, true, false, false, false, nil)
		t.ok(err)
		var workers [2]<-chan amqp.Delivery
		for i := range workers {
			ch := t.channel()
			t.ok(ch.Qos(1, 0, false))
			workers[i] = t.consume(ch, tasks, "", false)
		}
		for _, task := range []string{"slow", "quick", "quicker", "quickest"} {
			t.ok(boss.Publish("", tasks, false, false,
				amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(task)}))
		}
		// The first keeps its task to the end, so the second gets all others.
		slow := t.deliver(workers[0], false, "slow")
		for _, task := range []string{"quick", "quicker", "quickest"} {
			t.ok(t.deliver(workers[1], false, task).Ack(false))
		}
		t.ok(slow.Ack(false))
		_, err = boss.QueueDelete(tasks, false, false, false)
		t.ok(err)
	}},

	{"tutorial: publish/subscribe", func(t *T) {
		ch := t.channel()
		logs := t.unique("logs")
		t.ok(ch.ExchangeDeclare(logs, "fanout", true, false, false, false, nil))
		t.publish(ch, logs, "", "nobody listens yet")
		screen, disk := t.listen(logs, ""), t.listen(logs, "")
		t.publish(ch, logs, "", "to everybody")
		t.deliver(screen, false, "to everybody")
		t.deliver(disk, false, "to everybody")
		t.ok(ch.ExchangeDelete(logs, false, false))
	}},

	{"tutorial: routing by severity", func(t *T) {
		ch := t.channel()
		logs := t.unique("logs_direct")
		t.ok(ch.ExchangeDeclare(logs, "direct", true, false, false, false, nil))
		disk, screen := t.listen(logs, "error"), t.listen(logs, "info", "warning", "error")
		for _, severity := range []string{"info", "error", "debug", "warning"} {
			t.publish(ch, logs, severity, severity)
		}
		t.deliver(screen, false, "info", "error", "warning")
		t.deliver(disk, false, "error")
		t.ok(ch.ExchangeDelete(logs, false, false))
	}},

	{"tutorial: topics", func(t *T) {
		ch := t.channel()
		logs := t.unique("logs_topic")
		t.ok(ch.ExchangeDeclare(logs, "topic", true, false, false, false, nil))
		all, kern := t.listen(logs, "#"), t.listen(logs, "kern.*")
		both := t.listen(logs, "kern.*", "*.critical")
		for _, key := range []string{"kern.critical", "cron.info", "cron.critical", "kern.warn"} {
			t.publish(ch, logs, key, key)
		}
		t.deliver(all, false, "kern.critical", "cron.info", "cron.critical", "kern.warn")
		t.deliver(kern, false, "kern.critical", "kern.warn")
		t.deliver(both, false, "kern.critical", "cron.critical", "kern.warn") // the first only once
		t.ok(ch.ExchangeDelete(logs, false, false))
	}},

	{"tutorial: RPC", func(t *T) {
		server, client := t.channel(), t.channel()
		rpc := t.queue(server)
		t.ok(server.Qos(1, 0, false))
		requests := t.consume(server, rpc, "", false)
		q, err := client.QueueDeclare("", false, false, true, false, nil)
		t.ok(err)
		answers := t.consume(client, q.Name, "", true)
		for _, n := range []int{30, 1, 20} {
			id := "fib-" + strconv.Itoa(n)
			t.ok(client.Publish("", rpc, false, false, amqp.Publishing{CorrelationId: id,
				ReplyTo: q.Name, ContentType: "text/plain", Body: []byte(strconv.Itoa(n))}))
			request := t.take(requests)
			asked, err := strconv.Atoi(strings.TrimSpace(string(request.Body)))
			t.ok(err)
			t.ok(server.Publish("", request.ReplyTo, false, false, amqp.Publishing{
				CorrelationId: request.CorrelationId, Body: []byte(strconv.Itoa(fib(asked)))}))
			t.ok(request.Ack(false))
			t.same(id, t.deliver(answers, false, strconv.Itoa(fib(n))).CorrelationId, "answer to")
		}
	}},
}
