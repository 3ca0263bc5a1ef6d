package dev.satchel.example

import android.app.Application

/** Owns the chat: it outlives the screen, so a rotation neither loads the model again nor loses an answer. */
class ExampleApp : Application() {
    val chat: Chat by lazy { Chat(this) }
}
