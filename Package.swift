// swift-tools-version: 6.1
import PackageDescription

// `Span`-returning members in Postgres and CGI say what they borrow from with `@_lifetime`.
// Dynamic exclusivity checks stay on in debug builds, which the tests run; in release they cost a twentieth of a request.
let house: [SwiftSetting] = [
  .enableExperimentalFeature("Lifetimes"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]

let package = Package(
  name: "forkloop",
  products: [.executable(name: "forkloop", targets: ["forkloop"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
  ],
  targets: [
    // Cellar: C module maps and the smallest shims.
    .target(name: "CLinux"),
    .target(name: "CXXHash"),
    .systemLibrary(name: "CFastCGI", pkgConfig: "fcgi", providers: [.apt(["libfcgi-dev"])]),
    .systemLibrary(name: "CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),

    // Ground floor: each knows nothing of the others.
    .target(
      name: "Platform",
      dependencies: ["CLinux", .product(name: "Logging", package: "swift-log")], swiftSettings: house),
    // Whoever holds its values depends on it, as the build system sees no layout behind another target's.
    .target(name: "Text", swiftSettings: house),
    .target(name: "JSON", dependencies: ["Text"], swiftSettings: house),
    .target(
      name: "CGI", dependencies: ["Text", .product(name: "HTTPTypes", package: "swift-http-types")],
      swiftSettings: house),
    .target(name: "FastCGI", swiftSettings: house),
    .target(name: "Postgres", dependencies: ["Text", "CPostgres"], swiftSettings: house),

    // The living floor.
    .target(name: "Shop", dependencies: ["Text", "JSON", "CGI", "Postgres", "CXXHash"], swiftSettings: house),

    // Processes: forked, looked after, replaced.
    .target(
      name: "ProcessPool",
      dependencies: [
        "Text", "CGI", "FastCGI", "Platform", "CLinux", .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: house),

    // The two doors.
    .target(
      name: "SyncServer",
      dependencies: [
        "Shop", "Text", "CGI", "FastCGI", "JSON", "Postgres", "Platform", "ProcessPool", "CFastCGI", "CLinux",
      ],
      swiftSettings: house),
    .target(name: "EventLoop", dependencies: ["Platform", "CLinux"], swiftSettings: house),
    .target(
      name: "AsyncServer",
      dependencies: [
        "Shop", "Text", "CGI", "FastCGI", "JSON", "Postgres", "Platform", "ProcessPool", "EventLoop",
        .product(name: "DequeModule", package: "swift-collections"),
      ], swiftSettings: house),

    // Who asks: HTTP clients on the same event loop.
    .target(
      name: "LoadGenerator",
      dependencies: ["EventLoop", "Platform", "CLinux", .product(name: "Histogram", package: "hdrhistogram-swift")],
      swiftSettings: house),

    // One machine with everything on it: PostgreSQL, both doors, nginx.
    .target(name: "House", dependencies: ["Shop", "Postgres", "Platform", "CLinux"], swiftSettings: house),

    // The process models side by side: a testbed, scenarios, statistics, a report.
    .target(
      name: "Comparison",
      dependencies: ["House", "Text", "JSON", "LoadGenerator", "Shop", "Postgres", "Platform", "CLinux"],
      resources: [.embedInCode("Report/page.css"), .embedInCode("Report/page.js")], swiftSettings: house),

    .executableTarget(
      name: "forkloop",
      dependencies: [
        "House", "Comparison", "Shop", "Postgres", "Platform", "ProcessPool", "SyncServer", "AsyncServer",
        "LoadGenerator", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], swiftSettings: house,
      // The toolchain's own linker, which has no remark about Foundation's use of mktemp.
      linkerSettings: [.unsafeFlags(["-use-ld=lld"], .when(configuration: .release))]),

    .testTarget(name: "PlatformTests", dependencies: ["Platform"], swiftSettings: house),
    .testTarget(name: "TextTests", dependencies: ["Text"], swiftSettings: house),
    .testTarget(name: "JSONTests", dependencies: ["JSON", "Text"], swiftSettings: house),
    .testTarget(name: "CGITests", dependencies: ["CGI", "Text"], swiftSettings: house),
    .testTarget(name: "FastCGITests", dependencies: ["FastCGI"], swiftSettings: house),
    .testTarget(name: "PostgresTests", dependencies: ["Postgres", "Shop", "Platform", "Text"], swiftSettings: house),
    .testTarget(name: "ShopTests", dependencies: ["Shop", "Text"], swiftSettings: house),
    .testTarget(name: "AsyncServerTests", dependencies: ["AsyncServer", "Postgres", "Text"], swiftSettings: house),
    .testTarget(name: "ProcessPoolTests", dependencies: ["ProcessPool", "Platform"], swiftSettings: house),
    .testTarget(name: "ComparisonTests", dependencies: ["Comparison", "LoadGenerator"], swiftSettings: house),
    .testTarget(name: "LoadGeneratorTests", dependencies: ["LoadGenerator"], swiftSettings: house),
    .testTarget(name: "EventLoopTests", dependencies: ["EventLoop", "Platform"], swiftSettings: house),
  ],
  swiftLanguageModes: [.v6]
)
