import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.common.utils.LogContext;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.connect.runtime.distributed.IncrementalCooperativeAssignor;
import org.apache.kafka.connect.runtime.distributed.WorkerCoordinator.ConnectorsAndTasks;
import org.apache.kafka.connect.storage.ClusterConfigState;

/**
 * Kafka's assignor, round by round. A line in is {"max_delay"} for a new leader, or a round: {"now", "last", "generation",
 * "configured": [connector], "members": {member: [connector]}}; a line out is {"delay", "members": {member: {"assigned",
 * "revoked"}}}.
 */
public class Rounds {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static long now;

    public static void main(String[] args) throws Exception {
        Time time = (Time) Proxy.newProxyInstance(Rounds.class.getClassLoader(), new Class<?>[] {Time.class},
            (proxy, method, arguments) -> {
                if (method.getName().equals("milliseconds")) return now;
                throw new UnsupportedOperationException(method.getName());
            });
        IncrementalCooperativeAssignor assignor = null;
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonNode input = JSON.readTree(line);
            if (input.has("max_delay")) {
                assignor = new IncrementalCooperativeAssignor(new LogContext(), time, input.get("max_delay").asInt());
                continue;
            }
            now = input.get("now").asLong();
            System.out.println(JSON.writeValueAsString(round(assignor, input)));
        }
    }

    private static ObjectNode round(IncrementalCooperativeAssignor assignor, JsonNode input) throws Exception {
        Map<String, Integer> counts = new HashMap<>();
        Map<String, Map<String, String>> configs = new HashMap<>();
        for (JsonNode name : input.get("configured")) {
            counts.put(name.asText(), 0);
            configs.put(name.asText(), Map.of());
        }
        ClusterConfigState state = new ClusterConfigState(1, null, counts, configs, Map.of(), Map.of(), Map.of(), Map.of(),
            Map.of(), Set.of(), Set.of());
        Map<String, ConnectorsAndTasks> members = new TreeMap<>();
        for (Map.Entry<String, JsonNode> member : input.get("members").properties()) {
            Collection<String> held = new TreeSet<>();
            member.getValue().forEach(name -> held.add(name.asText()));
            members.put(member.getKey(), new ConnectorsAndTasks.Builder().with(held, List.of()).build());
        }
        Method perform = IncrementalCooperativeAssignor.class.getDeclaredMethod("performTaskAssignment",
            ClusterConfigState.class, int.class, int.class, Map.class);
        perform.setAccessible(true);
        Object done =
            perform.invoke(assignor, state, input.get("last").asInt(), input.get("generation").asInt(), members);
        Field delay = IncrementalCooperativeAssignor.class.getDeclaredField("delay");
        delay.setAccessible(true);
        ObjectNode output = JSON.createObjectNode();
        output.put("delay", delay.getInt(assignor));
        ObjectNode shares = output.putObject("members");
        for (String member : members.keySet()) {
            ObjectNode share = shares.putObject(member);
            share.set("assigned", JSON.valueToTree(get(done, "newlyAssignedConnectors", member)));
            share.set("revoked", JSON.valueToTree(get(done, "newlyRevokedConnectors", member)));
        }
        return output;
    }

    private static Object get(Object assignment, String method, String member) throws Exception {
        Method getter = assignment.getClass().getDeclaredMethod(method, String.class);
        getter.setAccessible(true);
        return getter.invoke(assignment, member);
    }
}
