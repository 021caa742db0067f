import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.HexFormat;

import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/** Reads lines of "message version hex", and answers each with the bytes that Kafka's class writes after reading them. */
public class Reencode {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder out = new StringBuilder();
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split(" ", -1);
            String answer;
            try {
                answer = HexFormat.of().formatHex(reencode(words[0], Short.parseShort(words[1]), words[2]));
            } catch (Exception e) {
                answer = "error " + e.toString().replace('\n', ' ');
            }
            out.append(answer).append('\n');
        }
        System.out.print(out);
    }

    private static byte[] reencode(String name, short version, String hex) throws Exception {
        Message message = (Message) find(name).getDeclaredConstructor().newInstance();
        if (version < message.lowestSupportedVersion() || version > message.highestSupportedVersion()) {
            throw new IllegalArgumentException("the class has no version " + version);
        }
        ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(hex));
        message.read(new ByteBufferAccessor(bytes), version);
        if (bytes.hasRemaining()) {
            throw new IllegalArgumentException(bytes.remaining() + " bytes left over");
        }
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer written = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(written), cache, version);
        return written.array();
    }

    private static Class<?> find(String name) throws ClassNotFoundException {
        for (String candidate : new String[] {
            "org.apache.kafka.common.message." + name + "Data",
            "org.apache.kafka.common.message." + name,
            "org.apache.kafka.coordinator.group.generated." + name,
        }) {
            try {
                return Class.forName(candidate);
            } catch (ClassNotFoundException e) {
                // Try the next one.
            }
        }
        throw new ClassNotFoundException(name);
    }
}
