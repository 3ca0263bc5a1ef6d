package dev.satchel;

import java.util.concurrent.Executor;
import java.util.function.Consumer;

/** What docs/guide-android.md shows: a test compares the two, and this file is compiled. */
final class GuideSnippets {
    private GuideSnippets() {}

    static Cancellable ask(ChatSession session, Executor mainThread, Consumer<String> show) {
        GenerateOptions options = new GenerateOptions.Builder().maxNewTokens(200).temperature(0.7).build();
        return session.streamResponse("What is the capital of France?", options, mainThread, new TextCallback() {
            @Override
            public void onText(TextChunk chunk) {
                show.accept(chunk.getText());
            }

            @Override
            public void onFailed(Throwable error) {
                show.accept(error.getMessage());
            }
        });
    }
}
