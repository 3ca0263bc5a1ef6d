package dev.satchel.host

import dev.satchel.GenerateOptions
import dev.satchel.SatchelModel
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put
import java.io.File
import kotlin.concurrent.thread
import kotlin.random.Random
import kotlin.time.Duration
import kotlin.time.Duration.Companion.microseconds
import kotlin.time.measureTime

/** Cancels answers and loads and closes models at random moments, and writes down what became of memory and text. */
internal class Stress(
    private val bundle: File,
    seed: Long,
) {
    private val random = Random(seed)
    private val options = GenerateOptions(maxNewTokens = 16)
    private val background = CoroutineScope(SupervisorJob() + Dispatchers.Default)
    private var wrongTexts = 0

    private suspend fun cancels(model: SatchelModel, count: Int): Pair<Long, Long> {
        val expected = text(model)
        val longest = measureTime { text(model) }
        var before = 0L
        repeat(count) { round ->
            if (round == count / WARM_PART) before = residentBytes()
            val answer = answering(model)
            delay(moment(longest))
            answer.cancelAndJoin()
            if (round % CHECK_EVERY == 0 && text(model) != expected) wrongTexts++
        }
        if (text(model) != expected) wrongTexts++
        return before to residentBytes()
    }

    private fun answering(model: SatchelModel) = background.launch {
        val prompt = "x ".repeat(random.nextInt(1, 40))
        if (random.nextBoolean()) {
            model.newSession().streamResponse(prompt, options).collect {}
        } else {
            model.generate(prompt, options).collect {}
        }
    }

    private suspend fun loads(count: Int): Pair<Long, Long> {
        val longest = measureTime { SatchelModel.load(bundle, 1).close() }
        val expected = SatchelModel.load(bundle, 1).use { text(it) }
        var before = 0L
        repeat(count) { round ->
            if (round == count / WARM_PART) before = residentBytes()
            if (round % 2 == 0) {
                val job = loading()
                delay(moment(longest * 2))
                job.cancelAndJoin()
            } else {
                val model = SatchelModel.load(bundle, 1)
                val answers = answering(model)
                delay(moment(longest))
                val closers = List(2) { thread { model.close() } }
                closers.forEach(Thread::join)
                answers.join()
            }
        }
        if (SatchelModel.load(bundle, 1).use { text(it) } != expected) wrongTexts++
        return before to residentBytes()
    }

    private fun loading() = background.launch {
        SatchelModel.load(bundle, 1).use { text(it) }
    }

    /** The model's answer to one prompt; another one before it, so that it is always fed in the same chunks. */
    private suspend fun text(model: SatchelModel): String {
        model.respond("\n", GenerateOptions(maxNewTokens = 1))
        return model.respond("Once upon a time", options).text
    }

    private fun moment(longest: Duration): Duration =
        random.nextLong(longest.inWholeMicroseconds.coerceAtLeast(1)).microseconds

    private fun residentBytes(): Long {
        repeat(2) { System.gc() }
        return File("/proc/self/status").readLines().first { it.startsWith("VmRSS:") }
            .filter(Char::isDigit).toLong() * 1024
    }

    internal companion object {
        private const val CHECK_EVERY = 50

        /** Memory is compared with that after this part of all rounds: the first ones fill caches and heaps. */
        private const val WARM_PART = 2

        /** `Stress BUNDLE [--cancels N] [--loads N] [--seed S]` */
        @JvmStatic
        fun main(arguments: Array<String>) {
            val line = CommandLine(arguments, setOf("cancels", "loads", "seed"))
            val output = standardOutput()
            val bundle = File(line.positional(0, "BUNDLE"))
            val stress = Stress(bundle, line.long("seed") ?: 1)
            // A collector that fails because its model was closed is what is wanted here.
            Thread.setDefaultUncaughtExceptionHandler { _, e -> if (e !is IllegalStateException) e.printStackTrace() }
            val cancels = line.int("cancels") ?: 0
            val loads = line.int("loads") ?: 0
            val result = runBlocking {
                buildJsonObject {
                    if (cancels > 0) {
                        val (before, after) = SatchelModel.load(bundle, 1).use { stress.cancels(it, cancels) }
                        put("cancels", cancels)
                        put("cancels_rss_before", before)
                        put("cancels_rss_after", after)
                    }
                    if (loads > 0) {
                        val (before, after) = stress.loads(loads)
                        put("loads", loads)
                        put("loads_rss_before", before)
                        put("loads_rss_after", after)
                    }
                    put("wrong_texts", stress.wrongTexts)
                }
            }
            output.println(result)
        }
    }
}
