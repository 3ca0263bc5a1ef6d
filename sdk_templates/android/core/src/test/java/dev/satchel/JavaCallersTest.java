package dev.satchel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The library as a caller in Java uses it. */
class JavaCallersTest {
    @TempDir
    File folder;

    private final ExecutorService executor = Executors.newSingleThreadExecutor();

    @AfterEach
    void end() {
        executor.shutdownNow();
    }

    /** Appends text, as a view would, and completes with the last chunk. */
    private static class View implements TextCallback {
        final StringBuilder text = new StringBuilder();
        final CompletableFuture<TextChunk> done = new CompletableFuture<>();

        @Override
        public void onText(TextChunk chunk) {
            text.append(chunk.getText());
        }

        @Override
        public void onFinished(TextChunk last) {
            done.complete(last);
        }

        @Override
        public void onFailed(Throwable error) {
            done.completeExceptionally(error);
        }

        TextChunk last() throws Exception {
            return done.get(10, TimeUnit.SECONDS);
        }
    }

    private SatchelModel load(FakeEngine engine) throws Exception {
        return TestModels.load(TestBundle.INSTANCE.write(folder), engine);
    }

    @Test
    void aSessionStreamsIntoACallback() throws Exception {
        try (SatchelModel model = load(FakeEngine.Companion.saying("Paris.", 0))) {
            ChatSession session = model.newSession("Be brief.");
            GenerateOptions options = new GenerateOptions.Builder()
                .temperature(0)
                .topK(40)
                .topP(0.9)
                .stopString("!")
                .timeoutMillis(60_000)
                .build();
            View view = new View();
            session.streamResponse("Capital of France?", options, executor, view);
            TextChunk last = view.last();
            assertEquals("Paris.", view.text.toString());
            assertEquals(FinishReason.STOP, last.getFinishReason());
            assertTrue(last.getStats().getTimeToFirstTokenMillis() >= 0);
            List<ChatTurn> turns = session.getHistory().getTurns();
            assertEquals("Paris.", turns.get(1).getText());
            ChatSession restored = model.newSession(ChatHistory.fromJson(session.getHistory().toJson()));
            assertEquals(turns, restored.getHistory().getTurns());
        }
    }

    @Test
    void callbacksRunOnTheGivenExecutor() throws Exception {
        try (SatchelModel model = load(FakeEngine.Companion.saying("ab", 0))) {
            CompletableFuture<Thread> used = new CompletableFuture<>();
            Thread expected = executor.submit(Thread::currentThread).get();
            model.generate("x", new GenerateOptions.Builder().build(), executor, new View() {
                @Override
                public void onFinished(TextChunk last) {
                    used.complete(Thread.currentThread());
                }
            });
            assertEquals(expected, used.get(10, TimeUnit.SECONDS));
        }
    }

    @Test
    void aCancelledRequestHearsNothingMore() throws Exception {
        try (SatchelModel model = load(FakeEngine.Companion.endless(1))) {
            CountDownLatch first = new CountDownLatch(1);
            AtomicInteger ends = new AtomicInteger();
            Cancellable request = model.newSession().streamResponse(
                "x", new GenerateOptions.Builder().maxNewTokens(1000).build(), executor, new TextCallback() {
                    @Override
                    public void onText(TextChunk chunk) {
                        first.countDown();
                    }

                    @Override
                    public void onFinished(TextChunk last) {
                        ends.incrementAndGet();
                    }

                    @Override
                    public void onFailed(Throwable error) {
                        ends.incrementAndGet();
                    }
                });
            assertTrue(first.await(10, TimeUnit.SECONDS));
            request.cancel();
            request.cancel();
            View view = new View();
            model.generate("x", new GenerateOptions.Builder().maxNewTokens(2).build(), executor, view);
            assertEquals(FinishReason.LENGTH, view.last().getFinishReason());
            assertEquals(0, ends.get());
        }
    }

    @Test
    void failuresArriveAsWhatTheyAre() throws Exception {
        try (SatchelModel model = load(FakeEngine.Companion.saying("a", 0))) {
            View tooLong = new View();
            model.generate("x".repeat(100), new GenerateOptions.Builder().build(), executor, tooLong);
            ExecutionException error = assertThrows(ExecutionException.class, tooLong::last);
            assertEquals(100, assertInstanceOf(SatchelException.ContextSizeExceeded.class, error.getCause()).getTokenCount());

            View broken = new View() {
                @Override
                public void onText(TextChunk chunk) {
                    throw new UnsupportedOperationException("the caller's own mistake");
                }
            };
            model.generate("x", new GenerateOptions.Builder().build(), executor, broken);
            error = assertThrows(ExecutionException.class, broken::last);
            assertInstanceOf(UnsupportedOperationException.class, error.getCause());
        }
    }

    @Test
    void loadingAndTestingAreFutures() throws Exception {
        File bundle = TestBundle.INSTANCE.write(folder);
        ExecutionException error =
            assertThrows(ExecutionException.class, () -> SatchelModel.loadAsync(bundle).get(10, TimeUnit.SECONDS));
        UnavailableReason reason =
            assertInstanceOf(SatchelException.Unavailable.class, error.getCause()).getReason();
        assertInstanceOf(UnavailableReason.NoEngine.class, reason);

        Availability availability = SatchelModel.availabilityAsync(bundle).get(10, TimeUnit.SECONDS);
        assertInstanceOf(
            UnavailableReason.NoEngine.class,
            assertInstanceOf(Availability.Unavailable.class, availability).getReason());

        try (SatchelModel model = load(FakeEngine.Companion.saying("a", 0))) {
            model.prewarmAsync().get(10, TimeUnit.SECONDS);
            SelfTestResult result = model.selfTestAsync().get(10, TimeUnit.SECONDS);
            assertEquals("golden", result.getChecks().get(result.getChecks().size() - 1).getName());
        }
    }

    @Test
    void anOptionOutOfRangeIsRefused() {
        var builder = new GenerateOptions.Builder().logitBias(3, 1.0).seed(5).minP(1.5);
        assertTrue(assertThrows(IllegalArgumentException.class, builder::build).getMessage().contains("0 to 1"));
    }
}
