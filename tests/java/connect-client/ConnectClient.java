import java.io.File;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import org.sourcelab.kafka.connect.apiclient.Configuration;
import org.sourcelab.kafka.connect.apiclient.KafkaConnectClient;
import org.sourcelab.kafka.connect.apiclient.request.Request;
import org.sourcelab.kafka.connect.apiclient.request.RequestMethod;
import org.sourcelab.kafka.connect.apiclient.request.dto.ConnectorPluginConfigDefinition;
import org.sourcelab.kafka.connect.apiclient.request.dto.ConnectorStatus;
import org.sourcelab.kafka.connect.apiclient.request.dto.NewConnectorDefinition;
import org.sourcelab.kafka.connect.apiclient.request.post.PostConnectorRestart;
import org.sourcelab.kafka.connect.apiclient.rest.HttpClientRestClient;
import org.sourcelab.kafka.connect.apiclient.rest.exceptions.InvalidRequestException;
import org.sourcelab.kafka.connect.apiclient.rest.exceptions.ResourceNotFoundException;
import org.sourcelab.kafka.connect.apiclient.rest.exceptions.UnauthorizedRequestException;

/**
 * The life of a connector as the client of AKHQ sees it: URL TRUST_STORE STORE_PASSWORD USER PASSWORD INPUT_FILE. Prints a line
 * for each check; the first that fails ends the program.
 */
public final class ConnectClient {
    private static final String NAME = "from java";

    /** What the client itself has no call for: it takes requests of one's own. */
    private record Own(RequestMethod getRequestMethod, String getApiEndpoint) implements Request<String> {
        @Override
        public Object getRequestBody() {
            return "";
        }

        @Override
        public String parseResponse(String text) {
            return text;
        }
    }

    public static void main(String[] args) throws Exception {
        String url = args[0];
        Configuration known = new Configuration(url).useTrustStore(new File(args[1]), args[2]).useBasicAuth(args[3], args[4]);
        KafkaConnectClient client = new KafkaConnectClient(known);
        HttpClientRestClient plain = new HttpClientRestClient();
        plain.init(known);

        Configuration unknown = new Configuration(url).useTrustStore(new File(args[1]), args[2]).useBasicAuth(args[3], "guess");
        check("a wrong password is an exception of its own", thrown(() -> new KafkaConnectClient(unknown).getConnectors()) instanceof UnauthorizedRequestException);
        check("the cluster's id", client.getConnectServerVersion().getKafkaClusterId() != null);
        String source = "org.apache.kafka.connect.file.FileStreamSourceConnector";
        check("plugins", client.getConnectorPlugins().stream().anyMatch(plugin -> plugin.getClassName().equals(source) && plugin.getType().equals("source")));
        Map<String, String> config = Map.of("connector.class", source, "name", NAME, "file", args[5], "topic", "java-lines");
        Map<String, String> half = Map.of("connector.class", source, "name", NAME);
        check("a good configuration", client.validateConnectorPluginConfig(new ConnectorPluginConfigDefinition(source, config)).getErrorCount() == 0);
        check("a bad configuration", client.validateConnectorPluginConfig(new ConnectorPluginConfigDefinition(source, half)).getErrorCount() == 1);

        check("creation", client.addConnector(new NewConnectorDefinition(NAME, config)).getConfig().equals(config));
        check("a name that is taken", thrown(() -> client.addConnector(new NewConnectorDefinition(NAME, config))) != null);
        check("creation with errors", thrown(() -> client.addConnector(new NewConnectorDefinition("half", Map.of("connector.class", source)))) instanceof InvalidRequestException);
        awaitStates(client, "RUNNING [RUNNING]");
        check("the list", client.getConnectors().contains(NAME));
        check("the list with all details", client.getConnectorsWithAllExpandedMetadata().getStatusForConnector(NAME).getType().equals("source"));
        check("its configuration", client.getConnectorConfig(NAME).equals(config));
        check("its tasks", client.getConnectorTasks(NAME).size() == 1);
        check("its task's status", client.getConnectorTaskStatus(NAME, 0).getState().equals("RUNNING"));
        await("its topics", () -> client.getConnectorTopics(NAME).getTopics().equals(List.of("java-lines")));
        check("topics forgotten", client.resetConnectorTopics(NAME));

        check("pause", client.pauseConnector(NAME));
        awaitStates(client, "PAUSED [PAUSED]");
        check("resume", client.resumeConnector(NAME));
        awaitStates(client, "RUNNING [RUNNING]");
        check("restart", client.restartConnector(NAME));
        check("restart of a task", client.restartConnectorTask(NAME, 0));
        check("restart with its tasks", client.restartConnector(new PostConnectorRestart(NAME).withIncludeTasks(true).withOnlyFailed(false)));
        awaitStates(client, "RUNNING [RUNNING]");
        Map<String, String> changed = new HashMap<>(config);
        changed.put("batch.size", "7");
        check("a change", client.updateConnectorConfig(NAME, changed).getConfig().equals(changed));
        await("its task has changed, too", () -> client.getConnectorTasks(NAME).iterator().next().getConfig().getOrDefault("batch.size", "").equals("7"));

        String path = "/connectors/from%20java";
        await("its offsets", () -> text(plain, RequestMethod.GET, path + "/offsets").contains("\"position\":"));
        check("stop", text(plain, RequestMethod.PUT, path + "/stop").equals("204 "));
        awaitStates(client, "STOPPED []");
        await("offsets reset", () -> text(plain, RequestMethod.DELETE, path + "/offsets").contains("reset successfully"));
        check("no offsets", text(plain, RequestMethod.GET, path + "/offsets").equals("200 {\"offsets\":[]}"));
        check("deletion", client.deleteConnector(NAME));
        check("it is gone", thrown(() -> client.getConnector(NAME)) instanceof ResourceNotFoundException);
        plain.close();
    }

    private static String states(KafkaConnectClient client) {
        ConnectorStatus status = client.getConnectorStatus(NAME);
        return status.getConnector().get("state") + " " + status.getTasks().stream().map(ConnectorStatus.TaskStatus::getState).toList();
    }

    private static void awaitStates(KafkaConnectClient client, String wanted) throws InterruptedException {
        String[] last = {""};
        await(wanted, () -> (last[0] = states(client)).equals(wanted), () -> last[0]);
    }

    private static String text(HttpClientRestClient plain, RequestMethod method, String path) {
        var response = plain.submitRequest(new Own(method, path));
        return response.getHttpCode() + " " + (response.getResponseStr() == null ? "" : response.getResponseStr());
    }

    private static RuntimeException thrown(Runnable call) {
        try {
            call.run();
            return null;
        } catch (RuntimeException e) {
            return e;
        }
    }

    private static void await(String name, BooleanSupplier holds) throws InterruptedException {
        await(name, holds, () -> "");
    }

    private static void await(String name, BooleanSupplier holds, Supplier<String> found) throws InterruptedException {
        long end = System.nanoTime() + 60_000_000_000L;
        boolean done = false;
        String last = "";
        while (!done && System.nanoTime() < end) {
            try {
                done = holds.getAsBoolean();
                last = found.get();
            } catch (RuntimeException e) {
                // Statuses and topics come into being a moment after a creation.
                last = e.toString();
            }
            if (!done) {
                Thread.sleep(100);
            }
        }
        check(done ? name : name + ", not " + last, done);
    }

    private static void check(String name, boolean holds) {
        System.out.println((holds ? "PASS " : "FAIL ") + name);
        if (!holds) {
            System.exit(1);
        }
    }
}
