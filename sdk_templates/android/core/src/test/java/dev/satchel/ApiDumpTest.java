package dev.satchel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import kotlin.collections.CollectionsKt;
import kotlinx.validation.api.KotlinSignaturesLoadingKt;
import org.junit.jupiter.api.Test;

/**
 * The public API of a module is the one that was agreed on: api/(its artifact id).api, so that a change of it is seen in
 * a review. The other modules run this test over their own classes.
 */
class ApiDumpTest {
    private static String dump() throws IOException {
        List<InputStream> classes;
        try (Stream<Path> files = Files.walk(Path.of(System.getProperty("satchel.classes.dir")))) {
            classes = files.filter(file -> file.toString().endsWith(".class")).sorted().map(ApiDumpTest::open)
                .collect(Collectors.toList());
        }
        var all = KotlinSignaturesLoadingKt.loadApiFromJvmClasses(CollectionsKt.asSequence(classes), name -> true);
        var published = KotlinSignaturesLoadingKt.filterOutNonPublic(all, List.of(), List.of());
        return KotlinSignaturesLoadingKt.dump(published, new StringBuilder()).toString();
    }

    private static InputStream open(Path file) {
        try {
            return new ByteArrayInputStream(Files.readAllBytes(file));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Test
    void thePublicApiIsTheOneThatWasAgreedOn() throws IOException {
        String actual = dump();
        Path agreed = Path.of(System.getProperty("satchel.api.file"));
        Path written = Path.of(System.getProperty("satchel.classes.dir")).resolveSibling(agreed.getFileName());
        Files.writeString(written, actual);
        String expected = Files.exists(agreed) ? Files.readString(agreed) : "";
        assertEquals(expected, actual, "If the change is meant, copy " + written + " over " + agreed);
    }

    @Test
    void noPublicClassIsADataClass() throws IOException {
        assertFalse(dump().contains("component1"), "a data class can't get another property without breaking its users");
    }
}
