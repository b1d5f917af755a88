// What is drawn. `page.js` draws it and decides nothing.

package struct Chart: Codable, Sendable {
  package enum Kind: String, Codable, Sendable { case line, bar, stacked, range }

  package struct Axis: Codable, Sendable {
    var title: String
    var isLogarithmic = false
    /// Of the places of bars.
    var labels: [String]?
  }

  package struct Point: Codable, Sendable {
    /// Nil where the axis has labels.
    var x: Double?
    var y: Double
    var low: Double?
    var high: Double?
  }

  package struct Series: Codable, Sendable {
    var name: String
    /// A model's raw value, or "none": how it is drawn.
    var style: String
    var isDashed = false
    var points: [Point]
  }

  var id: String
  var kind: Kind
  var title: String
  var x: Axis
  var y: Axis
  var series: [Series]
  /// Where something happened.
  var mark: Double?

  init(_ id: String, _ kind: Kind, _ title: String, x: Axis, y: Axis, _ series: [Series], mark: Double? = nil) {
    self.id = id
    self.kind = kind
    self.title = title
    self.x = x
    self.y = y
    self.series = series
    self.mark = mark
  }

  /// The same as a table: the places, and a column a series that was measured.
  var table: (head: [String], rows: [[String]]) {
    let series = kind == .line && x.isLogarithmic ? series.filter { !$0.isDashed } : series
    let head = [x.title] + series.map(\.name)
    func text(_ point: Point?) -> String {
      guard let point else { return "–" }
      guard let low = point.low, let high = point.high, low.isFinite, high.isFinite else { return Figure.text(point.y) }
      return "\(Figure.text(point.y)) (\(Figure.text(low)) to \(Figure.text(high)))"
    }
    if let labels = x.labels {
      return (
        head,
        labels.indices.map { row in
          [labels[row]] + series.map { text(row < $0.points.count ? $0.points[row] : nil) }
        }
      )
    }
    let places = Set(series.flatMap { $0.points.compactMap(\.x) }).sorted()
    return (
      head,
      places.map { place in
        [Figure.text(place)] + series.map { series in text(series.points.first { $0.x == place }) }
      }
    )
  }
}

extension Chart.Series {
  /// A line of one model's cells.
  init(_ model: Model, _ cells: [CellResult], x: (Cell) -> Double, _ metric: (Sample) -> Double) {
    self.init(
      name: model.title, style: model.rawValue,
      points: cells.filter { $0.cell.setup.model == model }.map {
        Chart.Point(x: x($0.cell), $0.estimate(metric))
      })
  }
}

extension Chart.Point {
  init(x: Double? = nil, _ estimate: Estimate) {
    self.init(
      x: x, y: estimate.value, low: estimate.low.isFinite ? max(0, estimate.low) : nil,
      high: estimate.high.isFinite ? estimate.high : nil)
  }
}
