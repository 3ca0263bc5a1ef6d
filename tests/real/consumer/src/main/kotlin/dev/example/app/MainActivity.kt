package dev.example.app

import android.app.Activity
import android.os.Bundle
import android.widget.TextView
import dev.satchel.GenerateOptions
import dev.satchel.SatchelModel
import dev.satchel.android.load
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch

class MainActivity : Activity() {
    private val scope = CoroutineScope(Job() + Dispatchers.Default)

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val answer = TextView(this).also(::setContentView)
        scope.launch {
            SatchelModel.load(this@MainActivity).use { model ->
                model
                    .newSession(instructions = "Be brief.")
                    .streamResponse("Capital of France?", GenerateOptions(maxNewTokens = 64))
                    .collect { chunk -> answer.post { answer.append(chunk.text) } }
            }
        }
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }
}
