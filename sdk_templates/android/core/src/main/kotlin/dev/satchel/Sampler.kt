package dev.satchel

/**
 * Draws the next token from logits: the same logits, options and seed give the same id on every platform
 * (docs/sampling.md). One generation's own; all memory it needs is taken when it is made.
 *
 * @param prompt the ids before the first drawn one
 * @throws IllegalArgumentException if the options' logit bias names an id beyond the vocabulary
 */
internal class Sampler(
    options: GenerateOptions,
    private val temperature: Double,
    seed: Long,
    private val vocabSize: Int,
    prompt: IntArray,
) {
    private val generator = Xoshiro256(seed)
    private val adjustment = if (Adjustment.isNeeded(options)) Adjustment(options, vocabSize, prompt) else null
    private val topK = options.topK?.takeIf { it < vocabSize }
    private val topP = options.topP?.takeIf { it < 1.0 }
    private val minP = options.minP ?: 0.0

    private val isGreedy = temperature == 0.0
    private val x = DoubleArray(if (isGreedy && adjustment == null) 0 else vocabSize)
    private val weights = DoubleArray(if (isGreedy) 0 else vocabSize)
    private val ranking = if (!isGreedy && (topK != null || topP != null)) Ranking(x, topK ?: vocabSize) else null

    /** The next id. @throws SatchelException.RuntimeFailure if no token can be drawn from [logits] */
    fun sample(logits: FloatArray): Int {
        val largest = largest(logits)
        if (isGreedy && adjustment == null) return largest
        for (id in 0 until vocabSize) x[id] = logits[id].toDouble()
        adjustment?.apply(x)
        val best = if (adjustment == null) largest else largest(x)
        val token = if (isGreedy) best else draw(x[best])
        adjustment?.count(token)
        return token
    }

    private fun draw(maximum: Double): Int {
        ranking?.reset()
        topK?.let { ranking?.keepFirst(it) }
        var total = 0.0
        for (id in 0 until vocabSize) {
            if (!isKept(id)) continue
            val weight = exponential((x[id] - maximum) / temperature)
            weights[id] = weight
            total += weight
        }
        topP?.let { ranking?.keepShare(weights, it * total) }
        total = 0.0
        for (id in 0 until vocabSize) {
            if (isKept(id) && weights[id] >= minP) total += weights[id]
        }
        val target = generator.uniform() * total
        var running = 0.0
        for (id in 0 until vocabSize) {
            if (!isKept(id) || weights[id] < minP) continue
            running += weights[id]
            if (running > target) return id
        }
        throw IllegalStateException("$target is not below the sum $total") // a number below 1 times the sum always is
    }

    private fun isKept(id: Int): Boolean = ranking == null || ranking.isKept(id)

    /** The id of the largest logit, the lowest of equals. */
    private fun largest(logits: FloatArray): Int {
        var best = -1
        var maximum = Float.NEGATIVE_INFINITY
        for (id in logits.indices) {
            val logit = logits[id]
            if (logit <= maximum) continue // false for NaN
            if (logit.isNaN() || logit == Float.POSITIVE_INFINITY) {
                throw nonsense("the logit of token $id is $logit: the program computed nonsense")
            }
            best = id
            maximum = logit
        }
        if (best < 0) throw nonsense("every logit is negative infinity: the program computed nonsense")
        return best
    }

    private fun largest(x: DoubleArray): Int {
        var best = 0
        for (id in x.indices) if (x[id] > x[best]) best = id
        if (x[best] == Double.NEGATIVE_INFINITY) {
            throw nonsense("logitBias forbids every token that the program could give: allow one")
        }
        return best
    }

    private fun nonsense(detail: String) = SatchelException.RuntimeFailure(0, detail)
}

/** Penalties and biases: what changes logits before a token is drawn. */
private class Adjustment(
    options: GenerateOptions,
    vocabSize: Int,
    prompt: IntArray,
) {
    private val repetition = options.repetitionPenalty
    private val presence = options.presencePenalty
    private val frequency = options.frequencyPenalty
    private val seen = BooleanArray(vocabSize) // in the prompt or the answer
    private val drawn = IntArray(vocabSize) // how often in the answer
    private val bias = DoubleArray(vocabSize)

    init {
        for (id in prompt) seen[id] = true
        for ((id, value) in options.logitBias) {
            require(id < vocabSize) {
                "logitBias names token $id and the model has $vocabSize tokens, 0 to ${vocabSize - 1}"
            }
            bias[id] = value
        }
    }

    fun apply(x: DoubleArray) {
        for (id in x.indices) {
            var value = x[id]
            if (seen[id]) value = if (value > 0.0) value / repetition else value * repetition
            if (drawn[id] > 0) value = (value - drawn[id] * frequency) - presence
            x[id] = value + bias[id]
        }
    }

    fun count(token: Int) {
        seen[token] = true
        drawn[token]++
    }

    companion object {
        fun isNeeded(options: GenerateOptions): Boolean = options.repetitionPenalty != 1.0 ||
            options.presencePenalty != 0.0 ||
            options.frequencyPenalty != 0.0 ||
            options.logitBias.isNotEmpty()
    }
}

/**
 * Ids in the order of their logits [x], the largest first and of equals the lowest id, as far as it is asked for.
 *
 * @param capacity most ids that are ever ranked
 */
private class Ranking(
    private val x: DoubleArray,
    capacity: Int,
) {
    private val heap = IntArray(capacity)
    private var size = 0

    // The last id that is kept; all before it in the order are, too.
    private var last = NONE

    fun isKept(id: Int): Boolean = last == NONE || id == last || isBefore(id, last)

    fun reset() {
        last = NONE
    }

    /** Keeps the first [count] ids. */
    fun keepFirst(count: Int) {
        size = count
        for (id in 0 until count) heap[id] = id
        for (index in count / 2 - 1 downTo 0) sink(index, lastOnTop = true)
        for (id in count until x.size) {
            if (isBefore(id, heap[0])) {
                heap[0] = id
                sink(0, lastOnTop = true)
            }
        }
        last = heap[0]
    }

    /** Of the ids kept so far, keeps the first ones, until their [weights] add up to [share]. */
    fun keepShare(weights: DoubleArray, share: Double) {
        size = 0
        for (id in x.indices) if (isKept(id) && weights[id] > 0.0) heap[size++] = id
        for (index in size / 2 - 1 downTo 0) sink(index, lastOnTop = false)
        var sum = 0.0
        while (size > 0) {
            val first = heap[0]
            sum += weights[first]
            if (sum >= share) {
                last = first
                return
            }
            heap[0] = heap[--size]
            sink(0, lastOnTop = false)
        }
    }

    private fun isBefore(left: Int, right: Int): Boolean = x[left] > x[right] || (x[left] == x[right] && left < right)

    private fun sink(start: Int, lastOnTop: Boolean) {
        var index = start
        val moved = heap[index]
        while (true) {
            var child = 2 * index + 1
            if (child >= size) break
            if (child + 1 < size && isBefore(heap[child + 1], heap[child]) != lastOnTop) child++
            if (isBefore(heap[child], moved) == lastOnTop) break
            heap[index] = heap[child]
            index = child
        }
        heap[index] = moved
    }

    private companion object {
        const val NONE = -1
    }
}
