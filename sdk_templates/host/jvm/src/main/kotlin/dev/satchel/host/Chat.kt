package dev.satchel.host

import dev.satchel.FinishReason
import dev.satchel.GenerateOptions
import dev.satchel.SatchelException
import dev.satchel.SatchelModel
import dev.satchel.TextChunk
import kotlinx.coroutines.runBlocking
import java.io.File
import java.io.PrintStream
import kotlin.system.exitProcess

/** Streams a model's answers to the terminal through the very code that an app runs. */
internal object Chat {
    /**
     * `Chat BUNDLE PROMPT... [--raw] [--max-tokens N] [--temperature T] [--seed S] [--threads N] [--ids]`
     *
     * Several prompts are the turns of one conversation; with `--raw` each is continued by itself, without the chat
     * template. With `--ids` an answer is a line of token ids instead of its text.
     */
    @JvmStatic
    fun main(arguments: Array<String>) {
        val line = CommandLine(arguments, setOf("max-tokens", "temperature", "seed", "threads"), setOf("raw", "ids"))
        val output = standardOutput()
        try {
            runBlocking { answer(line, output) }
        } catch (e: SatchelException) {
            System.err.println(e.message)
            exitProcess(1)
        }
    }

    private suspend fun answer(line: CommandLine, output: PrintStream) {
        val options = GenerateOptions(
            maxNewTokens = line.int("max-tokens"),
            temperature = line.double("temperature"),
            seed = line.long("seed"),
        )
        line.positional(1, "PROMPT")
        SatchelModel.load(File(line.positional(0, "BUNDLE")), line.int("threads") ?: 0).use { model ->
            val session = if (line.flag("raw")) null else model.newSession()
            for (prompt in line.positionalFrom(1)) {
                val chunks = session?.streamResponse(prompt, options) ?: model.generate(prompt, options)
                val ids = ArrayList<Int>()
                chunks.collect { chunk ->
                    ids += chunk.ids
                    if (!line.flag("ids")) output.print(chunk.text)
                    if (chunk.finishReason != null) summarize(chunk)
                }
                output.println(if (line.flag("ids")) ids.joinToString(" ") else "")
            }
        }
    }

    private fun summarize(last: TextChunk) {
        val stats = last.stats ?: return
        val end = if (last.finishReason == FinishReason.STOP) "end of turn" else last.finishReason.toString()
        System.err.println(
            "%d (%d cached) + %d tokens, %s; prefill %.0f tokens/s, decode %.0f tokens/s".format(
                stats.promptTokens,
                stats.cachedTokens,
                stats.generatedTokens,
                end,
                stats.prefillTokensPerSecond,
                stats.decodeTokensPerSecond ?: 0.0,
            ),
        )
    }
}
