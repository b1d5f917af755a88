// swift-tools-version: 6.1
import PackageDescription

// `Span`-returning members in Postgres and CGI say what they borrow from with `@_lifetime`.
// Dynamic exclusivity checks stay on in debug builds, which the tests run; in release they cost a twentieth of a request.
let settings: [SwiftSetting] = [
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
    // C module maps and the smallest shims.
    .target(name: "CLinux"),
    .target(name: "CXXHash"),
    .systemLibrary(name: "CFastCGI", pkgConfig: "fcgi", providers: [.apt(["libfcgi-dev"])]),
    .systemLibrary(name: "CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),

    // Each knows nothing of the others.
    .target(
      name: "Platform",
      dependencies: ["CLinux", .product(name: "Logging", package: "swift-log")], swiftSettings: settings),
    // Whoever holds its values depends on it, as the build system sees no layout behind another target's.
    .target(name: "Text", swiftSettings: settings),
    .target(name: "JSON", dependencies: ["Text"], swiftSettings: settings),
    .target(
      name: "CGI", dependencies: ["Text", .product(name: "HTTPTypes", package: "swift-http-types")],
      swiftSettings: settings),
    .target(name: "FastCGI", swiftSettings: settings),
    .target(name: "Postgres", dependencies: ["Text", "CPostgres"], swiftSettings: settings),

    // What both servers run, and two of its kind.
    .target(name: "Application", dependencies: ["CGI", "Postgres"], swiftSettings: settings),
    .target(
      name: "Orders", dependencies: ["Application", "Text", "JSON", "CGI", "Postgres", "CXXHash"],
      swiftSettings: settings),
    .target(
      name: "Workload", dependencies: ["Application", "Text", "JSON", "CGI", "Postgres"], swiftSettings: settings),

    // Processes: forked, looked after, replaced.
    .target(
      name: "ProcessPool",
      dependencies: [
        "Text", "CGI", "FastCGI", "Platform", "CLinux", .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: settings),

    // The two servers.
    .target(
      name: "SyncServer",
      dependencies: [
        "Application", "Text", "CGI", "FastCGI", "JSON", "Postgres", "Platform", "ProcessPool", "CFastCGI", "CLinux",
      ],
      swiftSettings: settings),
    .target(name: "EventLoop", dependencies: ["Platform", "CLinux"], swiftSettings: settings),
    .target(
      name: "AsyncServer",
      dependencies: [
        "Application", "Text", "CGI", "FastCGI", "JSON", "Postgres", "Platform", "ProcessPool", "EventLoop",
        .product(name: "DequeModule", package: "swift-collections"),
      ], swiftSettings: settings),

    // Who asks: HTTP clients on the same event loop.
    .target(
      name: "LoadGenerator",
      dependencies: ["EventLoop", "Platform", "CLinux", .product(name: "Histogram", package: "hdrhistogram-swift")],
      swiftSettings: settings),

    // One machine with everything on it: PostgreSQL, both servers, nginx.
    .target(name: "LocalStack", dependencies: ["Orders", "Postgres", "Platform", "CLinux"], swiftSettings: settings),

    // The process models side by side: a testbed, scenarios, statistics, a report.
    .target(
      name: "Comparison",
      dependencies: ["LocalStack", "Text", "JSON", "LoadGenerator", "Orders", "Postgres", "Platform", "CLinux"],
      resources: [.embedInCode("Report/page.css"), .embedInCode("Report/page.js")], swiftSettings: settings),

    // One request through both models, as the kernel sees it.
    .target(
      name: "Trace", dependencies: ["LocalStack", "LoadGenerator", "Postgres", "Platform", "CLinux"],
      swiftSettings: settings),

    .executableTarget(
      name: "forkloop",
      dependencies: [
        "LocalStack", "Comparison", "Trace", "Application", "Orders", "Workload", "Postgres", "Platform", "ProcessPool",
        "SyncServer", "AsyncServer", "LoadGenerator",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], swiftSettings: settings,
      // The toolchain's own linker, which has no remark about Foundation's use of mktemp.
      linkerSettings: [.unsafeFlags(["-use-ld=lld"], .when(configuration: .release))]),

    .testTarget(name: "PlatformTests", dependencies: ["Platform"], swiftSettings: settings),
    .testTarget(name: "TextTests", dependencies: ["Text"], swiftSettings: settings),
    .testTarget(name: "JSONTests", dependencies: ["JSON", "Text"], swiftSettings: settings),
    .testTarget(name: "CGITests", dependencies: ["CGI", "Text"], swiftSettings: settings),
    .testTarget(name: "FastCGITests", dependencies: ["FastCGI"], swiftSettings: settings),
    .testTarget(
      name: "PostgresTests", dependencies: ["Postgres", "Orders", "Platform", "Text"], swiftSettings: settings),
    .testTarget(
      name: "ApplicationTests", dependencies: ["Application", "CGI", "Postgres", "Text"], swiftSettings: settings),
    .testTarget(name: "OrdersTests", dependencies: ["Orders", "Application", "Text"], swiftSettings: settings),
    .testTarget(name: "WorkloadTests", dependencies: ["Workload", "Application", "Text"], swiftSettings: settings),
    .testTarget(
      name: "AsyncServerTests",
      dependencies: ["AsyncServer", "Application", "CGI", "EventLoop", "FastCGI", "Platform", "Postgres", "Text"],
      swiftSettings: settings),
    .testTarget(
      name: "SyncServerTests", dependencies: ["SyncServer", "Application", "CGI", "Platform", "Postgres", "Text"],
      swiftSettings: settings),
    .testTarget(name: "ProcessPoolTests", dependencies: ["ProcessPool", "Platform"], swiftSettings: settings),
    .testTarget(name: "ComparisonTests", dependencies: ["Comparison", "LoadGenerator"], swiftSettings: settings),
    .testTarget(name: "TraceTests", dependencies: ["Trace"], swiftSettings: settings),
    .testTarget(name: "LoadGeneratorTests", dependencies: ["LoadGenerator"], swiftSettings: settings),
    .testTarget(name: "EventLoopTests", dependencies: ["EventLoop", "Platform"], swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6]
)
