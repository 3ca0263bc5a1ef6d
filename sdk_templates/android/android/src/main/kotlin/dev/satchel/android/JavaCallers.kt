@file:JvmName("SatchelAndroid")

package dev.satchel.android

import android.content.Context
import dev.satchel.Availability
import dev.satchel.SatchelModel
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.future.future
import java.util.concurrent.CompletableFuture

/** [load] for languages without coroutines: `SatchelAndroid.loadAsync(context)`. Cancelling the future cancels the load. */
@JvmOverloads
public fun loadAsync(context: Context, name: String? = null, threads: Int = 0): CompletableFuture<SatchelModel> =
    CoroutineScope(Dispatchers.Default).future { SatchelModel.load(context, name, threads) }

/** [availability] for languages without coroutines: `SatchelAndroid.availabilityAsync(context)`. */
@JvmOverloads
public fun availabilityAsync(context: Context, name: String? = null): CompletableFuture<Availability> =
    CoroutineScope(Dispatchers.Default).future { SatchelModel.availability(context, name) }
