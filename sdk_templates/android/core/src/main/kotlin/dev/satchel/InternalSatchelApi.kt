package dev.satchel

/** Shared between Satchel's own libraries; may change in any release. */
@RequiresOptIn(message = "Internal to Satchel's own libraries")
@Retention(AnnotationRetention.BINARY)
@Target(AnnotationTarget.CLASS, AnnotationTarget.CONSTRUCTOR, AnnotationTarget.FUNCTION)
public annotation class InternalSatchelApi
