package com.google.ai.edge.litert

/** LiteRT failed. The Android runtime's class keeps its status to itself too: an app sees the message only. */
public class LiteRtException(
    code: Int,
    message: String,
) : Exception("$message (LiteRT status $code)")
