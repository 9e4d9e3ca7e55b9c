// The harness: runs the cases of suite.go and tutorials.go, and prints TAP.
//
// A case gets a *T, fails by panicking through it, and leaves its connections to the runner, which
// closes them. Every wait has the deadline wait, every case caseTime.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"runtime"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	wait      = 10 * time.Second
	caseTime  = 30 * time.Second
	suiteTime = 120 * time.Second
)

type kase struct {
	name string
	run  func(t *T)
}

// T is what a case works with: its connections and their sockets, and the verbs to fail by.
type T struct {
	opened  []*amqp.Connection
	sockets []net.Conn
	serial  int
}

type failure string

func (t *T) fail(format string, args ...interface{}) {
	where := ""
	for i := 1; i < 8; i++ { // the lines that led here, nearest first
		if _, file, line, ok := runtime.Caller(i); ok && !strings.HasSuffix(file, "harness.go") &&
			strings.Contains(file, "go_amqp091") {
			where += fmt.Sprintf(" (%s:%d)", file[strings.LastIndex(file, "/")+1:], line)
		}
	}
	panic(failure(fmt.Sprintf(format, args...) + where))
}

func (t *T) ok(err error) {
	if err != nil {
		t.fail("%v", err)
	}
}

func (t *T) expect(condition bool, format string, args ...interface{}) {
	if !condition {
		t.fail(format, args...)
	}
}

func (t *T) same(expected, got interface{}, what string) {
	t.expect(reflect.DeepEqual(expected, got), "%s: expected %#v, got %#v", what, expected, got)
}

// refused expects the library's error with this code, and words in its text.
func (t *T) refused(err error, code int, words string) *amqp.Error {
	var e *amqp.Error
	if !errors.As(err, &e) {
		t.fail("expected %d %q, got %v", code, words, err)
	}
	t.expect(e.Code == code && strings.Contains(e.Reason, words),
		"expected %d %q, got %d %q", code, words, e.Code, e.Reason)
	return e
}

// closing expects the channel or connection behind the notification to be closed with this error.
func (t *T) closing(notify <-chan *amqp.Error, code int, words string) {
	select {
	case e := <-notify:
		t.expect(e != nil, "closed without an error, expected %d %q", code, words)
		t.refused(e, code, words)
	case <-time.After(wait):
		t.fail("not closed, expected %d %q", code, words)
	}
}

func (t *T) unique(stem string) string {
	t.serial++
	return fmt.Sprintf("go.%s.%d.%x.%d", stem, os.Getpid(), time.Now().UnixNano(), t.serial)
}

func url() string { return os.Getenv("LEPUS_URL") }

func (t *T) dialConfig(config amqp.Config) (*amqp.Connection, error) {
	config.Dial = func(network, address string) (net.Conn, error) {
		socket, err := net.DialTimeout(network, address, wait)
		if err == nil {
			err = socket.SetDeadline(time.Now().Add(wait)) // the library lifts it when it is open
			t.sockets = append(t.sockets, socket)
		}
		return socket, err
	}
	c, err := amqp.DialConfig(url(), config)
	if err == nil {
		t.opened = append(t.opened, c)
	}
	return c, err
}

func (t *T) connect() *amqp.Connection {
	c, err := t.dialConfig(amqp.Config{Locale: "en_US"})
	t.ok(err)
	return c
}

func (t *T) channelOf(c *amqp.Connection) *amqp.Channel {
	ch, err := c.Channel()
	t.ok(err)
	return ch
}

func (t *T) channel() *amqp.Channel { return t.channelOf(t.connect()) }

// queue declares an exclusive queue.
func (t *T) queue(ch *amqp.Channel) string {
	q, err := ch.QueueDeclare(t.unique("q"), false, false, true, false, nil)
	t.ok(err)
	return q.Name
}

// exchange declares an auto-delete exchange: it goes when its last binding does.
func (t *T) exchange(ch *amqp.Channel, kind string) string {
	x := t.unique(kind)
	t.ok(ch.ExchangeDeclare(x, kind, false, true, false, false, nil))
	return x
}

func (t *T) publish(ch *amqp.Channel, exchange, key, body string) {
	t.ok(ch.Publish(exchange, key, false, false, amqp.Publishing{Body: []byte(body)}))
}

func (t *T) fill(ch *amqp.Channel, queue string, bodies ...string) {
	for _, body := range bodies {
		t.publish(ch, "", queue, body)
	}
}

func (t *T) consume(ch *amqp.Channel, queue, tag string, autoAck bool) <-chan amqp.Delivery {
	deliveries, err := ch.Consume(queue, tag, autoAck, false, false, false, nil)
	t.ok(err)
	return deliveries
}

func (t *T) take(deliveries <-chan amqp.Delivery) amqp.Delivery {
	select {
	case d, open := <-deliveries:
		t.expect(open, "the consumer was closed")
		return d
	case <-time.After(wait):
		t.fail("no delivery within %v", wait)
	}
	panic("not reached")
}

// deliver expects these bodies next, all redelivered or none; it returns the last delivery.
func (t *T) deliver(from <-chan amqp.Delivery, redelivered bool, bodies ...string) amqp.Delivery {
	var d amqp.Delivery
	for _, body := range bodies {
		d = t.take(from)
		t.expect(string(d.Body) == body && d.Redelivered == redelivered,
			"expected %q redelivered %v, got %q %v", body, redelivered, d.Body, d.Redelivered)
	}
	return d
}

func (t *T) drain(ch *amqp.Channel, queue string) []string {
	bodies := []string{}
	for {
		d, more, err := ch.Get(queue, true)
		t.ok(err)
		if !more {
			return bodies
		}
		bodies = append(bodies, string(d.Body))
	}
}

func (t *T) run(k kase) (problem string) {
	done := make(chan string, 1)
	go func() {
		defer func() {
			switch r := recover().(type) {
			case nil:
				done <- ""
			case failure:
				done <- string(r)
			default:
				done <- fmt.Sprint(r)
			}
		}()
		k.run(t)
	}()
	select {
	case problem = <-done:
	case <-time.After(caseTime):
		problem = "the case took too long"
	}
	for _, socket := range t.sockets { // a peer that does not answer must not hold up Close
		socket.SetDeadline(time.Now().Add(wait))
	}
	for _, c := range t.opened {
		c.Close()
	}
	return problem
}

func main() {
	if url() == "" {
		fmt.Println("Bail out! LEPUS_URL says where the broker is")
		os.Exit(2)
	}
	time.AfterFunc(suiteTime, func() {
		fmt.Println("Bail out! the suite took too long")
		os.Exit(2)
	})
	all := append(suite, tutorials...)
	status := 0
	for i, k := range all {
		problem := (&T{}).run(k)
		if problem == "" {
			fmt.Printf("ok %d - %s\n", i+1, k.name)
			continue
		}
		status = 1
		fmt.Printf("not ok %d - %s\n# %s\n", i+1, k.name,
			strings.ReplaceAll(problem, "\n", "\n# "))
	}
	fmt.Printf("1..%d\n", len(all))
	os.Exit(status)
}
