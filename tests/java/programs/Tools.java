import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main methods of Kafka's tools one after the other in one JVM, since starting one for each takes longer than most
 * of them do. Each line of input is {"class", "args", "input", "limit"}, each line of output {"code", "output"}; the code of a tool
 * that does not end within its limit of seconds is "timeout".
 */
public final class Tools {
    /** A tool with all threads that it starts. */
    private static final class Run extends ThreadGroup {
        final CompletableFuture<Integer> code = new CompletableFuture<>();
        final List<Runnable> hooks = new ArrayList<>();
        /** What it prints; both of its streams, in order. */
        final ByteArrayOutputStream printed = new ByteArrayOutputStream();
        Thread thread;

        Run() {
            super("tool");
        }
    }

    private static volatile Run current;

    public static void main(String[] ignored) throws Exception {
        PrintStream answers = System.out;
        PrintStream stream = new PrintStream(new OutputStream() {
            @Override
            public void write(int b) {
                printed().write(b);
            }

            @Override
            public void write(byte[] bytes, int from, int count) {
                printed().write(bytes, from, count);
            }
        }, true, StandardCharsets.UTF_8);
        BufferedReader steps = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setOut(stream);
        System.setErr(stream);
        Exit.setExitProcedure((code, message) -> leave(code));
        Exit.setHaltProcedure((code, message) -> leave(code));
        Exit.setShutdownHookAdder((name, hook) -> current.hooks.add(hook));
        ObjectMapper json = new ObjectMapper();
        for (String line = steps.readLine(); line != null; line = steps.readLine()) {
            JsonNode step = json.readTree(line);
            String code = run(step);
            String text = current.printed.toString(StandardCharsets.UTF_8);
            answers.println(json.writeValueAsString(json.createObjectNode().put("code", code).put("output", text)));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    /** Threads that a tool left behind print nothing into the output of the next. */
    private static ByteArrayOutputStream printed() {
        ThreadGroup group = Thread.currentThread().getThreadGroup();
        while (group != null && !(group instanceof Run)) {
            group = group.getParent();
        }
        return group == null ? current.printed : ((Run) group).printed;
    }

    /** A tool that ends the program ends its own thread: what follows such a call is never run. */
    private static void leave(int code) {
        Run run = current;
        if (run.code.isDone()) {
            return;
        }
        if (Thread.currentThread() == run.thread) {
            end(run, code);
            while (true) {
                LockSupport.park();
            }
        }
        run.code.complete(code);
    }

    /** As when a program ends: its hooks run to their ends. */
    private static void end(Run run, int code) {
        try {
            List<Thread> threads = hooksOfRuntime();
            run.hooks.forEach(hook -> threads.add(new Thread(run, hook)));
            for (Thread thread : threads) {
                thread.start();
            }
            for (Thread thread : threads) {
                thread.join(code < 0 ? 10_000 : 60_000);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        run.code.complete(code);
    }

    /** Takes the hooks that the tool added itself; some tools do not use Kafka's way to do so. */
    @SuppressWarnings("unchecked")
    private static List<Thread> hooksOfRuntime() {
        try {
            Class<?> all = Class.forName("java.lang.ApplicationShutdownHooks");
            Field field = all.getDeclaredField("hooks");
            field.setAccessible(true);
            synchronized (all) {
                Map<Thread, Thread> hooks = (Map<Thread, Thread>) field.get(null);
                List<Thread> taken = new ArrayList<>();
                for (Thread thread : hooks.keySet()) {
                    if (thread.getThreadGroup() == current) {
                        taken.add(thread);
                    }
                }
                taken.forEach(hooks::remove);
                return taken;
            }
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    /** A program goes on until the last of its threads ends that are no daemons. */
    private static void await(Run run) throws InterruptedException {
        while (true) {
            Thread[] threads = new Thread[run.activeCount() + 64];
            int count = run.enumerate(threads);
            Thread other = null;
            for (Thread thread : Arrays.copyOf(threads, count)) {
                if (thread != run.thread && !thread.isDaemon()) {
                    other = thread;
                }
            }
            if (other == null) {
                return;
            }
            other.join();
        }
    }

    private static String run(JsonNode step) throws Exception {
        List<String> args = new ArrayList<>();
        step.get("args").forEach(arg -> args.add(arg.asText()));
        System.setIn(new ByteArrayInputStream(step.get("input").asText().getBytes(StandardCharsets.UTF_8)));
        Class<?> tool = Class.forName(step.get("class").asText());
        reset(tool);
        Method main = tool.getMethod("main", String[].class);
        Run run = new Run();
        current = run;
        run.thread = new Thread(run, () -> {
            int code = 0;
            try {
                main.invoke(null, (Object) args.toArray(new String[0]));
            } catch (InvocationTargetException e) {
                StringWriter text = new StringWriter();
                e.getCause().printStackTrace(new PrintWriter(text));
                System.err.print("Exception in thread \"main\" " + text);
                code = 1;
            } catch (ReflectiveOperationException e) {
                run.code.completeExceptionally(e);
            }
            try {
                await(run);
                end(run, code);
            } catch (InterruptedException e) {
                run.code.completeExceptionally(e);
            }
        });
        run.thread.start();
        try {
            return String.valueOf(run.code.get(step.get("limit").asLong(), TimeUnit.SECONDS));
        } catch (TimeoutException e) {
            end(run, -1);
            return "timeout";
        }
    }

    /** The console consumer counts over all of its runs. */
    private static void reset(Class<?> tool) throws IllegalAccessException {
        for (Field field : tool.getDeclaredFields()) {
            if (field.getName().equals("messageCount")) {
                field.setAccessible(true);
                field.setInt(null, 0);
            }
        }
    }
}
