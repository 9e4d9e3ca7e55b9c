import com.rabbitmq.client.*;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import java.util.concurrent.*;
import javax.net.ssl.*;

/** Confirmed messages there and back over TLS. Client VERSION PORT CA [PKCS12, of password "changeit"] */
public class Client {
    static byte[] body(int i) {
        byte[] bytes = new byte[i % 50 == 0 ? 1 << 20 : 100 * i];
        Arrays.fill(bytes, (byte) i);
        return bytes;
    }

    static SSLContext context(String version, String ca, String identity) throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        try (FileInputStream in = new FileInputStream(ca)) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        KeyManager[] keys = null;
        if (identity != null) {
            KeyStore own = KeyStore.getInstance("PKCS12");
            try (FileInputStream in = new FileInputStream(identity)) {
                own.load(in, "changeit".toCharArray());
            }
            KeyManagerFactory managers = KeyManagerFactory.getInstance("PKIX");
            managers.init(own, "changeit".toCharArray());
            keys = managers.getKeyManagers();
        }
        SSLContext context = SSLContext.getInstance(version);
        context.init(keys, trust.getTrustManagers(), null);
        return context;
    }

    static void run(String[] args) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost("localhost");
        factory.setPort(Integer.parseInt(args[1]));
        factory.setAutomaticRecoveryEnabled(false);
        factory.useSslProtocol(context(args[0], args[2], args.length > 3 ? args[3] : null));
        try (Connection c = factory.newConnection()) {
            Channel ch = c.createChannel();
            BlockingQueue<byte[]> got = new LinkedBlockingQueue<>();
            ch.confirmSelect();
            String queue = ch.queueDeclare().getQueue();
            ch.basicConsume(queue, true, (tag, d) -> got.add(d.getBody()), tag -> { });
            for (int i = 0; i < 200; i++)
                ch.basicPublish("", queue, null, body(i));
            ch.waitForConfirmsOrDie(30000);
            for (int i = 0; i < 200; i++)
                if (!Arrays.equals(got.poll(30, TimeUnit.SECONDS), body(i)))
                    throw new Exception("body " + i + " is not what was sent");
        }
    }

    public static void main(String[] args) {
        try {
            run(args);
            System.out.println("ok");
            System.exit(0);
        } catch (Throwable t) {
            System.out.println(t);
            System.exit(1);
        }
    }
}
