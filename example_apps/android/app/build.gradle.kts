plugins {
    alias(libs.plugins.android.application) // brings Kotlin with it
}

android {
    namespace = "dev.satchel.example"
    compileSdk = 36

    defaultConfig {
        applicationId = "dev.satchel.example"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
    }

    buildTypes {
        release {
            isMinifyEnabled = true // the libraries bring the rules that R8 needs
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    androidResources {
        noCompress += "pte" // the model's program: it would not get smaller, only slower to install
    }
}

dependencies {
    implementation(libs.satchel.model)
    implementation(libs.coroutines.android)
}
