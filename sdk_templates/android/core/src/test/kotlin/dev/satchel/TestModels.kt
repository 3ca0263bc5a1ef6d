package dev.satchel

import kotlinx.coroutines.runBlocking
import java.io.File

/** What tests in Java need of this library's inside. */
object TestModels {
    @JvmStatic
    fun load(bundle: File, engine: FakeEngine): SatchelModel =
        runBlocking { SatchelModel.load(bundle, 0, engine.asFactory()) }
}
