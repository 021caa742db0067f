import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.HexFormat;

import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/** Reads lines of "message from to hex"; answers each with what Kafka's class writes in the version "to" after reading in "from". */
public class Reencode {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder out = new StringBuilder();
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split(" ", -1);
            String answer;
            try {
                answer = HexFormat.of().formatHex(reencode(words[0], Short.parseShort(words[1]), Short.parseShort(words[2]), words[3]));
            } catch (Exception e) {
                answer = "error " + e.toString().replace('\n', ' ');
            }
            out.append(answer).append('\n');
        }
        System.out.print(out);
    }

    private static byte[] reencode(String name, short from, short to, String hex) throws Exception {
        Message message = (Message) find(name).getDeclaredConstructor().newInstance();
        if (Math.min(from, to) < message.lowestSupportedVersion()
            || Math.max(from, to) > message.highestSupportedVersion()) {
            throw new IllegalArgumentException("the class has no version " + from + " or " + to);
        }
        ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(hex));
        message.read(new ByteBufferAccessor(bytes), from);
        if (bytes.hasRemaining()) {
            throw new IllegalArgumentException(bytes.remaining() + " bytes left over");
        }
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer written = ByteBuffer.allocate(message.size(cache, to));
        message.write(new ByteBufferAccessor(written), cache, to);
        return written.array();
    }

    private static Class<?> find(String name) throws ClassNotFoundException {
        for (String candidate : new String[] {
            "org.apache.kafka.common.message." + name + "Data",
            "org.apache.kafka.common.message." + name,
            "org.apache.kafka.coordinator.group.generated." + name,
            "org.apache.kafka.coordinator.transaction.generated." + name,
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
