package dev.satchel

/**
 * Shared between Satchel's own libraries; may change in any release. What has it is left out of the API's pages.
 *
 * @suppress
 */
@RequiresOptIn(message = "Internal to Satchel's own libraries")
@Retention(AnnotationRetention.BINARY)
@Target(AnnotationTarget.CLASS, AnnotationTarget.CONSTRUCTOR, AnnotationTarget.FUNCTION)
public annotation class InternalSatchelApi
