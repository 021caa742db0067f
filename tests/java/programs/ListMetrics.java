import java.util.TreeSet;
import javax.management.ObjectName;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;

/** Prints type and name of every attribute in a domain of a process's MBeans: {@code ListMetrics PORT DOMAIN}. */
public final class ListMetrics {
    public static void main(String[] args) throws Exception {
        var url = new JMXServiceURL("service:jmx:rmi:///jndi/rmi://127.0.0.1:" + args[0] + "/jmxrmi");
        try (var connector = JMXConnectorFactory.connect(url)) {
            var beans = connector.getMBeanServerConnection();
            var lines = new TreeSet<String>();
            for (ObjectName name : beans.queryNames(new ObjectName(args[1] + ":*"), null)) {
                for (var attribute : beans.getMBeanInfo(name).getAttributes()) {
                    lines.add(name.getKeyProperty("type") + "\t" + attribute.getName());
                }
            }
            lines.forEach(System.out::println);
        }
    }
}
