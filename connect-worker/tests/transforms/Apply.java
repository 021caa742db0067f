import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Map;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;

import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.storage.SimpleHeaderConverter;
import org.apache.kafka.connect.transforms.Transformation;

/** Reads a case a line, as JSON; answers each with the record that Kafka's transform makes of it, or the error. */
public class Apply {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final SimpleHeaderConverter HEADERS = new SimpleHeaderConverter();

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        java.io.PrintStream out = new java.io.PrintStream(System.out, false, "UTF-8");
        for (String line; (line = in.readLine()) != null; ) {
            ObjectNode answer;
            try {
                answer = apply(JSON.readTree(line));
            } catch (Throwable e) {
                answer = JSON.createObjectNode();
                answer.put("error", String.valueOf(e.getMessage()));
            }
            out.println(JSON.writeValueAsString(answer));
        }
        out.flush();
    }

    private static JsonConverter converter(boolean schemas) {
        JsonConverter converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", String.valueOf(schemas), "converter.type", "value"));
        return converter;
    }

    private static JsonNode write(Schema schema, Object value) throws Exception {
        byte[] bytes = converter(true).fromConnectData("t", schema, value);
        return bytes == null ? JSON.nullNode() : JSON.readTree(bytes);
    }

    @SuppressWarnings("unchecked")
    private static ObjectNode apply(JsonNode input) throws Exception {
        Transformation<SinkRecord> transform = (Transformation<SinkRecord>) Class
            .forName("org.apache.kafka.connect.transforms." + input.get("class").asText())
            .getDeclaredConstructor().newInstance();
        transform.configure(JSON.convertValue(input.get("config"), Map.class));
        JsonNode value = input.get("value");
        boolean schemas = value.has("schema");
        byte[] bytes = JSON.writeValueAsBytes(value);
        SchemaAndValue read = converter(schemas).toConnectData("t", value.isNull() ? null : bytes);
        JsonNode timestamp = input.get("timestamp");
        SinkRecord record = new SinkRecord("topic-a", 3, null, "k", read.schema(), read.value(), 42,
            timestamp == null || timestamp.isNull() ? null : timestamp.asLong(), TimestampType.CREATE_TIME);
        record.headers().addString("old", "x");
        SinkRecord out = transform.apply(record);
        ObjectNode answer = JSON.createObjectNode();
        if (out == null) {
            answer.put("dropped", true);
            return answer;
        }
        answer.put("topic", out.topic());
        answer.set("value", write(out.valueSchema(), out.value()));
        answer.set("key", write(out.keySchema(), out.key()));
        ArrayNode headers = answer.putArray("headers");
        for (Header header : out.headers()) {
            ObjectNode node = headers.addObject();
            node.put("name", header.key());
            byte[] text = HEADERS.fromConnectHeader("t", header.key(), header.schema(), header.value());
            node.put("text", text == null ? null : new String(text, "UTF-8"));
            node.put("type", header.schema() == null ? null : header.schema().type() + ":" + header.schema().name());
        }
        return answer;
    }
}
