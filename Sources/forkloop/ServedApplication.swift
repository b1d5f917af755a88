// Which application a responder runs.

import Application
import Orders
import Platform
import Workload

enum ServedApplication: String, CaseIterable {
  case orders, workload

  /// The one that a flag or the settings name.
  init(_ flag: String?, _ reader: SettingsReader) throws(SettingsError) {
    let name = reader.text(flag, "FORKLOOP_APPLICATION", default: "orders")
    guard let application = ServedApplication(rawValue: name) else {
      throw SettingsError(
        "\(flag == nil ? "FORKLOOP_APPLICATION" : "--application") must be orders or workload, not '\(name)'")
    }
    self = application
  }

  func make(_ mode: Mode, isStopping: @escaping () -> Bool = { false }) -> any Application {
    switch self {
    case .orders: Orders(mode: mode, isStopping: isStopping)
    case .workload: Workload(prefix: mode.prefix, isStopping: isStopping)
    }
  }

  /// What a start says of it; nil: it is the usual one.
  var remark: String? {
    self == .orders
      ? nil : "the application is the workload: requests cost what they say, so it is for measurements alone"
  }
}
