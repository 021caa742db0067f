import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestController;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;

/** One Elasticsearch node out of the published jars. Every argument is a setting, NAME=VALUE. */
public final class TestNode {
    public static void main(String[] args) throws Exception {
        Settings.Builder settings = Settings.builder();
        for (String arg : args) {
            int at = arg.indexOf('=');
            settings.put(arg.substring(0, at), arg.substring(at + 1));
        }
        Settings built = settings.build();
        Environment environment = new Environment(built, Path.of(built.get("path.home"), "config"));
        LogConfigurator.configureESLogging();
        PluginsLoader plugins = PluginsLoader.createPluginsLoader(
            PluginsLoader.loadModulesBundles(environment.modulesDir()), Set.of(), Map.of(), false);
        Node node = new Node(environment, plugins);
        node.injector().getInstance(RestController.class).registerHandler(new Banner());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception e) {
                e.printStackTrace();
            }
        }));
        node.start();
        new CountDownLatch(1).await();
    }

    /** GET /: a module that is not published answers it in the full distribution. Clients ask it for the version. */
    private static final class Banner extends BaseRestHandler {
        @Override
        public String getName() {
            return "banner";
        }

        @Override
        public List<Route> routes() {
            return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
        }

        @Override
        protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
            Build build = Build.current();
            String body = "{\"name\":\"test\",\"cluster_name\":\"aqueduct-tests\",\"cluster_uuid\":\"tests\",\"version\":{\"number\":\""
                + build.version() + "\",\"build_flavor\":\"default\",\"build_type\":\"tar\",\"build_hash\":\"" + build.hash()
                + "\",\"build_date\":\"" + build.date() + "\",\"build_snapshot\":false,\"lucene_version\":\""
                + org.apache.lucene.util.Version.LATEST + "\",\"minimum_wire_compatibility_version\":\"" + build.minWireCompatVersion()
                + "\",\"minimum_index_compatibility_version\":\"" + build.minIndexCompatVersion()
                + "\"},\"tagline\":\"You Know, for Search\"}";
            return channel -> channel.sendResponse(new RestResponse(RestStatus.OK, "application/json", body));
        }
    }
}
