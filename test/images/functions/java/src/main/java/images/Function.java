package images;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;

/** Counts its calls: in its process, and in the files of its container. */
public class Function implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    private static final Path KEPT = Path.of("/tmp/kept");
    private int calls;

    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        calls++;
        try {
            Files.writeString(KEPT, "x", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            Thread.sleep((long) (1000 * ((Number) event.getOrDefault("sleep", 0)).doubleValue()));
            return Map.of("calls", calls, "kept", Files.size(KEPT));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }
}
