import com.rabbitmq.client.*;
import java.io.IOException;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;

/** The daily work of a Java application, and RabbitMQ's six tutorial patterns. */
public class Suite {
    interface Body { void run(Connection connection, Channel ch) throws Exception; }
    interface Call { void run() throws Exception; }

    static final String HOST = System.getenv().getOrDefault("LEPUS_HOST", "127.0.0.1");
    static final int PORT = Integer.parseInt(System.getenv().getOrDefault("LEPUS_PORT", "5672"));
    static final int PATIENCE_S = 20;
    static int number = 0, failed = 0;

    static ConnectionFactory factory() {
        ConnectionFactory f = new ConnectionFactory();
        f.setHost(HOST);
        f.setPort(PORT);
        f.setAutomaticRecoveryEnabled(false);
        return f;
    }

    static void test(String title, Body body) {
        number++;
        Connection connection = null;
        try {
            connection = factory().newConnection();
            body.run(connection, connection.createChannel());
            System.out.println("ok " + number + " - " + title);
        } catch (Throwable t) {
            failed++;
            System.out.println("not ok " + number + " - " + title);
            System.out.println("# " + t);
            for (StackTraceElement e : t.getStackTrace())
                if (e.getClassName().startsWith("Suite")) System.out.println("#   " + e);
        } finally {
            try {
                if (connection != null && connection.isOpen()) connection.close(5000);
            } catch (Exception ignored) {
                // the case is over
            }
        }
    }

    static String name(String prefix) { return prefix + "-" + UUID.randomUUID().toString().substring(0, 13); }
    static byte[] bytes(String s) { return s.getBytes(StandardCharsets.UTF_8); }
    static String text(byte[] b) { return new String(b, StandardCharsets.UTF_8); }
    static String exclusive(Channel ch) throws IOException { return ch.queueDeclare().getQueue(); }

    static void equal(Object have, Object want) {
        if (!Objects.equals(have, want)) throw new AssertionError("have " + have + ", want " + want);
    }

    /** The reply code with which the call is refused. */
    static int refused(Call call) throws Exception {
        try {
            call.run();
        } catch (ShutdownSignalException e) {
            return code(e);
        } catch (IOException e) {
            if (e.getCause() instanceof ShutdownSignalException) return code((ShutdownSignalException) e.getCause());
            throw e;
        }
        throw new AssertionError("nothing was refused");
    }

    static int code(ShutdownSignalException e) {
        Object reason = e.getReason();
        return reason instanceof AMQP.Channel.Close ? ((AMQP.Channel.Close) reason).getReplyCode()
             : ((AMQP.Connection.Close) reason).getReplyCode();
    }

    static class Got {
        final Envelope envelope; final AMQP.BasicProperties properties; final byte[] body;
        Got(Envelope e, AMQP.BasicProperties p, byte[] b) { envelope = e; properties = p; body = b; }
    }

    /** A consumer whose deliveries are fetched one after the other. */
    static class Inbox extends DefaultConsumer {
        final BlockingQueue<Got> box = new LinkedBlockingQueue<>();
        final CountDownLatch cancelled = new CountDownLatch(1);
        Inbox(Channel ch) { super(ch); }
        public void handleDelivery(String tag, Envelope e, AMQP.BasicProperties p, byte[] b) { box.add(new Got(e, p, b)); }
        public void handleCancel(String tag) { cancelled.countDown(); }
        Got next() throws Exception {
            Got got = box.poll(PATIENCE_S, TimeUnit.SECONDS);
            if (got == null) throw new AssertionError("no delivery came");
            return got;
        }
        String nextText() throws Exception { return text(next().body); }
    }

    static Inbox consume(Channel ch, String queue, boolean autoAck) throws IOException {
        Inbox inbox = new Inbox(ch);
        ch.basicConsume(queue, autoAck, inbox);
        return inbox;
    }

    public static void main(String[] args) throws Exception {
        daily();
        tutorials();
        System.out.println("1.." + number);
        System.exit(failed == 0 ? 0 : 1);
    }

    static void daily() {
        test("a wrong password is AuthenticationFailureException", (c, ch) -> {
            ConnectionFactory f = factory();
            f.setPassword("wrong");
            try {
                f.newConnection();
                throw new AssertionError("logged in");
            } catch (AuthenticationFailureException expected) {
                if (!expected.getMessage().contains("ACCESS_REFUSED")) throw expected;
            }
        });
        test("an unknown vhost is 530", (c, ch) -> {
            ConnectionFactory f = factory();
            f.setVirtualHost("nowhere");
            equal(refused(f::newConnection), 530);
        });
        test("1000 confirmed publishes", (c, ch) -> {
            String q = exclusive(ch);
            ch.confirmSelect();
            for (int i = 0; i < 1000; i++) ch.basicPublish("", q, MessageProperties.PERSISTENT_BASIC, bytes("" + i));
            ch.waitForConfirmsOrDie(PATIENCE_S * 1000);
            equal(ch.messageCount(q), 1000L);
        });
        test("a mandatory message without a queue comes back with 312", (c, ch) -> {
            BlockingQueue<Integer> codes = new LinkedBlockingQueue<>();
            ch.addReturnListener((code, t, x, k, p, b) -> codes.add(code));
            ch.basicPublish("", name("q"), true, null, bytes("x"));
            equal(codes.poll(PATIENCE_S, TimeUnit.SECONDS), 312);
        });
        test("refusals: 404, 406, 405; the connection goes on", (c, ch) -> {
            equal(refused(() -> c.createChannel().queueDeclarePassive(name("q"))), 404);
            equal(refused(() -> c.createChannel().exchangeDeclare("amq.direct", "fanout")), 406);
            String q = exclusive(ch);
            try (Connection other = factory().newConnection()) {
                equal(refused(() -> other.createChannel().queueDeclarePassive(q)), 405);
            }
            exclusive(c.createChannel());
        });
        test("publishing to a missing exchange closes the channel with 404", (c, ch) -> {
            BlockingQueue<Integer> codes = new LinkedBlockingQueue<>();
            ch.addShutdownListener(e -> codes.add(code(e)));
            ch.basicPublish(name("x"), "k", null, bytes("x"));
            equal(codes.poll(PATIENCE_S, TimeUnit.SECONDS), 404);
        });
        test("a second ack is 406 unknown delivery tag", (c, ch) -> {
            String q = exclusive(ch);
            ch.basicPublish("", q, null, bytes("x"));
            BlockingQueue<String> texts = new LinkedBlockingQueue<>();
            ch.addShutdownListener(e -> texts.add(e.getMessage()));
            long tag = ch.basicGet(q, false).getEnvelope().getDeliveryTag();
            ch.basicAck(tag, false);
            ch.basicAck(tag, false);
            String why = texts.poll(PATIENCE_S, TimeUnit.SECONDS);
            if (why == null || !why.contains("unknown delivery tag " + tag)) throw new AssertionError(why);
        });
        test("nack requeues to its place, redelivered; multiple ack; reject drops", (c, ch) -> {
            String q = exclusive(ch);
            for (String body : "a b c d".split(" ")) ch.basicPublish("", q, null, bytes(body));
            GetResponse a = ch.basicGet(q, false), b = ch.basicGet(q, false);
            ch.basicReject(b.getEnvelope().getDeliveryTag(), false);
            ch.basicNack(a.getEnvelope().getDeliveryTag(), false, true);
            GetResponse again = ch.basicGet(q, false), next = ch.basicGet(q, false);
            equal(text(again.getBody()) + again.getEnvelope().isRedeliver() + text(next.getBody()), "atruec");
            ch.basicAck(next.getEnvelope().getDeliveryTag(), true);
            ch.close();
            equal(c.createChannel().basicGet(q, true).getMessageCount(), 0);
        });
        test("prefetch is honoured", (c, ch) -> {
            String q = exclusive(ch);
            ch.basicQos(2);
            Inbox inbox = consume(ch, q, false);
            for (int i = 0; i < 6; i++) ch.basicPublish("", q, null, bytes("" + i));
            inbox.next();
            Got second = inbox.next();
            equal(ch.messageCount(q), 4L);
            equal(inbox.box.size(), 0);
            ch.basicAck(second.envelope.getDeliveryTag(), true);
            equal(inbox.nextText() + inbox.nextText(), "23");
        });
        test("topic, headers, fanout, exchange-to-exchange, alternate exchange", (c, ch) -> {
            String x = name("x"), lost = name("x"), words = exclusive(ch), heads = exclusive(ch), rest = exclusive(ch);
            ch.exchangeDeclare(lost, "fanout", false, true, null);
            ch.exchangeDeclare(x, "topic", false, true, Collections.singletonMap("alternate-exchange", (Object) lost));
            ch.queueBind(words, x, "a.*.#");
            ch.queueBind(rest, lost, "");
            ch.exchangeBind("amq.headers", x, "head");
            Map<String, Object> match = new HashMap<>();
            match.put("x-match", "any");
            match.put("kind", "hare");
            match.put("n", 5);
            ch.queueBind(heads, "amq.headers", "", match);
            for (String key : "a.b a a.b.c".split(" ")) ch.basicPublish(x, key, null, bytes(key));
            ch.basicPublish(x, "head", new AMQP.BasicProperties.Builder()
                .headers(Collections.singletonMap("n", (Object) 5)).build(), bytes("yes"));
            Inbox w = consume(ch, words, true), r = consume(ch, rest, true), h = consume(ch, heads, true);
            equal(w.nextText() + " " + w.nextText(), "a.b a.b.c");
            equal(r.nextText(), "a");
            equal(h.nextText(), "yes");
        });
        test("bodies of every size come back whole", (c, ch) -> {
            String q = exclusive(ch);
            for (int size : new int[] {0, 1, 131063, 131064, 131065, 1 << 20, 8 << 20}) {
                byte[] body = new byte[size];
                new Random(size).nextBytes(body);
                ch.basicPublish("", q, null, body);
                if (!Arrays.equals(ch.basicGet(q, true).getBody(), body)) throw new AssertionError(size + " octets");
            }
        });
        test("properties and headers of every type come back unchanged", (c, ch) -> {
            String q = exclusive(ch);
            Map<String, Object> headers = new HashMap<>();
            headers.put("bool", true);
            headers.put("byte", (byte) -3);
            headers.put("short", (short) -300);
            headers.put("int", -70000);
            headers.put("long", 1L << 40);
            headers.put("float", 1.5f);
            headers.put("double", 2.25);
            headers.put("decimal", new java.math.BigDecimal("3.14"));
            headers.put("time", new Date(1234567890000L));
            headers.put("void", null);
            headers.put("list", Arrays.asList(1, 2, 3));
            headers.put("table", Collections.singletonMap("deep", Collections.singletonMap("deeper", 1)));
            AMQP.BasicProperties sent = new AMQP.BasicProperties("a/b", "c", headers, 2, 5, "d", "e", "60000", "f",
                new Date(1234567890000L), "g", "guest", "h", "i");
            ch.basicPublish("", q, sent, bytes("x"));
            AMQP.BasicProperties have = ch.basicGet(q, true).getProps();
            for (Map.Entry<String, Object> e : headers.entrySet()) {
                equal(String.valueOf(have.getHeaders().get(e.getKey())), String.valueOf(e.getValue()));
                if (e.getValue() instanceof Number)
                    equal(have.getHeaders().get(e.getKey()).getClass(), e.getValue().getClass());
            }
            equal(have.builder().headers(null).build().toString(), sent.builder().headers(null).build().toString());
        });
        test("200 channels on a connection", (c, ch) -> {
            String q = exclusive(ch);
            List<Channel> channels = new ArrayList<>();
            for (int i = 0; i < 200; i++) channels.add(c.createChannel());
            for (Channel each : channels) each.basicPublish("", q, null, bytes("x"));
            for (Channel each : channels) each.close();
            equal(ch.messageCount(q), 200L);
        });
        test("purge and delete tell how many; a deleted queue cancels its consumers", (c, ch) -> {
            String q = ch.queueDeclare(name("q"), false, false, true, null).getQueue();
            ch.basicPublish("", q, null, bytes("x"));
            ch.basicPublish("", q, null, bytes("x"));
            equal(ch.queuePurge(q).getMessageCount(), 2);
            Inbox inbox = consume(ch, q, true);
            equal(c.createChannel().queueDelete(q).getMessageCount(), 0);
            if (!inbox.cancelled.await(PATIENCE_S, TimeUnit.SECONDS)) throw new AssertionError("no cancel came");
        });
        test("a transaction commits and rolls back", (c, ch) -> {
            String q = exclusive(ch);
            ch.txSelect();
            ch.basicPublish("", q, null, bytes("no"));
            ch.txRollback();
            ch.basicPublish("", q, null, bytes("yes"));
            equal(c.createChannel().messageCount(q), 0L);
            ch.txCommit();
            equal(text(c.createChannel().basicGet(q, true).getBody()), "yes");
        });
        test("connection and topology recover after the socket is cut", (c, ch) -> recovery(ch));
    }

    /** A relay whose connections can be cut. */
    static class Relay extends Thread {
        final ServerSocket server = new ServerSocket(0, 50, java.net.InetAddress.getByName("127.0.0.1"));
        final List<Socket> open = new CopyOnWriteArrayList<>();
        Relay() throws IOException { setDaemon(true); start(); }
        public void run() {
            try {
                while (true) {
                    Socket near = server.accept(), far = new Socket(HOST, PORT);
                    open.add(near);
                    open.add(far);
                    pump(near, far);
                    pump(far, near);
                }
            } catch (IOException ended) { /* closed */ }
        }
        void pump(Socket from, Socket to) {
            Thread t = new Thread(() -> {
                try { from.getInputStream().transferTo(to.getOutputStream()); } catch (IOException cut) { /* as wanted */ }
                try { from.close(); to.close(); } catch (IOException ignored) { /* closed */ }
            });
            t.setDaemon(true);
            t.start();
        }
        void cut() throws IOException { for (Socket s : open) s.close(); open.clear(); }
    }

    static void recovery(Channel sender) throws Exception {
        Relay relay = new Relay();
        ConnectionFactory f = factory();
        f.setPort(relay.server.getLocalPort());
        f.setAutomaticRecoveryEnabled(true);
        f.setNetworkRecoveryInterval(100);
        Connection c = f.newConnection();
        CountDownLatch recovered = new CountDownLatch(1);
        ((Recoverable) c).addRecoveryListener(new RecoveryListener() {
            public void handleRecovery(Recoverable r) { recovered.countDown(); }
            public void handleRecoveryStarted(Recoverable r) { }
        });
        Channel ch = c.createChannel();
        String q = ch.queueDeclare(name("q"), false, true, false, null).getQueue();
        ch.queueBind(q, "amq.direct", q);
        Inbox inbox = consume(ch, q, true);
        relay.cut();
        if (!recovered.await(PATIENCE_S, TimeUnit.SECONDS)) throw new AssertionError("it did not recover");
        sender.basicPublish("amq.direct", q, null, bytes("again"));
        equal(inbox.nextText(), "again");
        c.close();
        relay.server.close();
    }

    static void tutorials() {
        test("tutorial: hello", (c, ch) -> {
            String q = exclusive(ch);
            Inbox inbox = consume(ch, q, true);
            ch.basicPublish("", q, null, bytes("Hello World!"));
            equal(inbox.nextText(), "Hello World!");
        });
        test("tutorial: work queues", (c, ch) -> {
            String q = exclusive(ch);
            Channel a = c.createChannel(), b = c.createChannel();
            a.basicQos(1);
            b.basicQos(1);
            Inbox one = consume(a, q, false), two = consume(b, q, false);
            for (int i = 0; i < 4; i++) ch.basicPublish("", q, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes("" + i));
            Got first = one.next(), second = two.next();
            a.basicAck(first.envelope.getDeliveryTag(), false);
            b.basicAck(second.envelope.getDeliveryTag(), false);
            equal(new TreeSet<>(Arrays.asList(text(first.body), text(second.body), one.nextText(), two.nextText())),
                  new TreeSet<>(Arrays.asList("0", "1", "2", "3")));
        });
        test("tutorial: publish and subscribe", (c, ch) -> {
            String x = name("logs"), a = exclusive(ch), b = exclusive(ch);
            ch.exchangeDeclare(x, "fanout", false, true, null);
            ch.queueBind(a, x, "");
            ch.queueBind(b, x, "");
            ch.basicPublish(x, "", null, bytes("news"));
            equal(consume(ch, a, true).nextText() + consume(ch, b, true).nextText(), "newsnews");
        });
        test("tutorial: routing", (c, ch) -> {
            String x = name("direct_logs"), q = exclusive(ch);
            ch.exchangeDeclare(x, "direct", false, true, null);
            ch.queueBind(q, x, "warning");
            ch.queueBind(q, x, "error");
            for (String s : "info warning error".split(" ")) ch.basicPublish(x, s, null, bytes(s));
            Inbox inbox = consume(ch, q, true);
            equal(inbox.nextText() + " " + inbox.nextText(), "warning error");
        });
        test("tutorial: topics", (c, ch) -> {
            String x = name("topic_logs"), q = exclusive(ch);
            ch.exchangeDeclare(x, "topic", false, true, null);
            ch.queueBind(q, x, "kern.*");
            ch.queueBind(q, x, "*.critical");
            for (String s : "kern.info cron.critical cron.info".split(" ")) ch.basicPublish(x, s, null, bytes(s));
            Inbox inbox = consume(ch, q, true);
            equal(inbox.nextText() + " " + inbox.nextText(), "kern.info cron.critical");
        });
        test("tutorial: RPC, by direct reply-to", (c, ch) -> {
            String q = exclusive(ch);
            Channel server = c.createChannel();
            server.basicConsume(q, true, new DefaultConsumer(server) {
                public void handleDelivery(String t, Envelope e, AMQP.BasicProperties p, byte[] b) throws IOException {
                    server.basicPublish("", p.getReplyTo(), new AMQP.BasicProperties.Builder()
                        .correlationId(p.getCorrelationId()).build(), bytes("" + 2 * Integer.parseInt(text(b))));
                }
            });
            Inbox answers = consume(ch, "amq.rabbitmq.reply-to", true);
            ch.basicPublish("", q, new AMQP.BasicProperties.Builder().correlationId("c1")
                .replyTo("amq.rabbitmq.reply-to").build(), bytes("21"));
            Got answer = answers.next();
            equal(answer.properties.getCorrelationId() + text(answer.body), "c142");
        });
    }
}
