// client: confirmed messages there and back over TLS. client PORT CA [CERTIFICATE KEY]
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func body(i int) []byte {
	size := 100 * i
	if i%50 == 0 {
		size = 1 << 20
	}
	return bytes.Repeat([]byte{byte(i)}, size)
}

func main() {
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	ca, err := os.ReadFile(os.Args[2])
	must(err)
	config.RootCAs.AppendCertsFromPEM(ca)
	if len(os.Args) > 3 {
		pair, err := tls.LoadX509KeyPair(os.Args[3], os.Args[4])
		must(err)
		config.Certificates = []tls.Certificate{pair}
	}
	c, err := amqp.DialTLS("amqps://guest:guest@localhost:"+os.Args[1]+"/", config)
	must(err)
	ch, err := c.Channel()
	must(err)
	must(ch.Confirm(false))
	q, err := ch.QueueDeclare("", false, false, true, false, nil)
	must(err)
	deliveries, err := ch.Consume(q.Name, "", true, true, false, false, nil)
	must(err)
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, 200))
	for i := 0; i < 200; i++ {
		must(ch.Publish("", q.Name, false, false, amqp.Publishing{Body: body(i)}))
	}
	late := time.After(30 * time.Second)
	for i := 0; i < 200; i++ {
		select {
		case d := <-deliveries:
			if !bytes.Equal(d.Body, body(i)) {
				must(fmt.Errorf("body %d is not what was sent", i))
			}
		case <-late:
			must(fmt.Errorf("delivery %d did not come", i))
		}
	}
	for i := 0; i < 200; i++ {
		select {
		case confirm := <-confirms:
			if !confirm.Ack {
				must(fmt.Errorf("message %d was not confirmed", i))
			}
		case <-late:
			must(fmt.Errorf("confirm %d did not come", i))
		}
	}
	must(c.Close())
	fmt.Println("ok")
}
