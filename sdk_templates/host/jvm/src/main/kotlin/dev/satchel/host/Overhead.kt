package dev.satchel.host

import dev.satchel.GenerateOptions
import dev.satchel.SatchelModel
import dev.satchel.TokenEngine
import kotlinx.coroutines.runBlocking
import kotlinx.serialization.json.add
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put
import kotlinx.serialization.json.putJsonArray
import java.io.File
import kotlin.time.TimeSource

/**
 * Measures what the library adds to the engine's `forward`: the same ids at the same places, bare and through
 * [SatchelModel.generate].
 */
internal object Overhead {
    /** `Overhead BUNDLE [--tokens N] [--rounds N] [--threads N]`: seconds of each round, bare and whole by turns. */
    @JvmStatic
    fun main(arguments: Array<String>) {
        val line = CommandLine(arguments, setOf("tokens", "rounds", "threads"))
        val output = standardOutput()
        val bundle = File(line.positional(0, "BUNDLE"))
        var tokens = line.int("tokens") ?: 128
        val threads = line.int("threads") ?: 1
        // The first chunk, where the clock starts, comes with the second token: its text is held until then.
        val options = GenerateOptions(maxNewTokens = tokens + 2, temperature = 0.0)
        val bare = ArrayList<Double>()
        val whole = ArrayList<Double>()
        runBlocking {
            SatchelModel.load(bundle, threads).use { model ->
                TokenEngine.open(bundle, threads).use { engine ->
                    val answer = model.respond(PROMPT, options)
                    tokens = minOf(tokens, answer.ids.size - 2) // a model may end its turn earlier
                    val ids = answer.ids.drop(1).take(tokens).toIntArray()
                    val start = checkNotNull(answer.stats).promptTokens + 1
                    repeat(start) { engine.forward(intArrayOf(ids[0]), it) }
                    repeat(line.int("rounds") ?: 8) {
                        bare += feed(engine, ids, start)
                        var first = TimeSource.Monotonic.markNow()
                        var chunks = 0
                        model.generate(PROMPT, options).collect {
                            if (chunks++ == 0) first = TimeSource.Monotonic.markNow()
                        }
                        whole += first.elapsedNow().inWholeNanoseconds * 1e-9
                    }
                }
            }
        }
        output.println(
            buildJsonObject {
                put("tokens", tokens)
                putJsonArray("forward_seconds") { bare.forEach { add(it) } }
                putJsonArray("generate_seconds") { whole.forEach { add(it) } }
            },
        )
    }

    private fun feed(engine: TokenEngine, ids: IntArray, position: Int): Double {
        val single = IntArray(1)
        val start = TimeSource.Monotonic.markNow()
        for (index in ids.indices) {
            single[0] = ids[index]
            engine.forward(single, position + index)
        }
        return start.elapsedNow().inWholeNanoseconds * 1e-9
    }

    private const val PROMPT = "Once upon a time"
}
