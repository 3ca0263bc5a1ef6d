pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

dependencyResolutionManagement {
    repositoriesMode = RepositoriesMode.FAIL_ON_PROJECT_REPOS
    repositories {
        google()
        mavenCentral()
        maven { url = uri("../../build/android/maven") } // what `make android` wrote: the SDK and the model
    }
}

rootProject.name = "satchel-example"
include(":app")
