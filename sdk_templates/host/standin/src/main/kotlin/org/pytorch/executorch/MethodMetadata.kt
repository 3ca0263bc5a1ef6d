package org.pytorch.executorch

/** What a program says of one of its methods. */
public class MethodMetadata internal constructor(
    public val name: String,
    public val backends: Array<String>,
)
