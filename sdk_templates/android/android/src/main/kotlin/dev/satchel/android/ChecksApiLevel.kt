package dev.satchel.android

/** Whose code uses an Android newer than the oldest supported one, and runs there only: the build's check skips it. */
@Retention(AnnotationRetention.BINARY)
@Target(AnnotationTarget.CLASS)
internal annotation class ChecksApiLevel
