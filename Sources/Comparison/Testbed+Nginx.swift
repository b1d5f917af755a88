// The testbed's nginx: the site as people install it, and what a comparison adds.

import Glibc
import LocalStack

extension Testbed {
  /// Starts nginx on a free port.
  func choosePort() throws(LocalStackError) {
    for candidate in UInt16(18_080)...19_080 {
      guard let claim = PortClaim.make(candidate) else { continue }
      portClaim = consume claim
      port = candidate
      return try startNginx(NginxSetup())
    }
    throw LocalStackError("no port between 18080 and 19080 is free")
  }

  /// The site as people install it, and what a comparison adds: plain CGI and the baselines.
  private func startNginx(_ setup: NginxSetup) throws(LocalStackError) {
    var additions = NginxSite.Additions()
    additions.connections = 16_384
    additions.server = """
          \(setup.isBuffering ? "" : "fastcgi_buffering off;")
          \(plainCGI(at: "/cgi/", .orders))
          \(plainCGI(at: "= /cgi/work", .workload))
          location /php/ {
              rewrite ^/php(/.*)$ /sync$1 break;
              include "\(site.source)/snippets/forkloop-responder.conf";
              fastcgi_param SCRIPT_FILENAME "\(tools.baselines)/index.php";
              fastcgi_param REQUEST_URI     $uri;
              fastcgi_pass "unix:\(folders.run)/php.sock";
          }
          location /fastapi/ {
              rewrite ^/fastapi(/.*)$ $1 break;
              proxy_http_version 1.1;
              proxy_set_header Connection "";
              proxy_pass http://forkloop_fastapi;
          }

      """
    if setup.hasSlowNetwork { additions.listen = " sndbuf=64k" }
    additions.http = """
      upstream forkloop_fastapi {
          server "unix:\(folders.run)/fastapi.sock";
          keepalive 64;
      }

      """
    let arguments = try site.write(folders: folders, port: port, accounts: accounts, additions: additions)
    nginx = try start(arguments, PrivateCluster.environment, nil, log: "nginx", readiness: .tcp(port))
    nginxSetup = setup
  }

  /// A location of plain CGI. Each request is a process, which learns from its environment what it is to serve.
  private func plainCGI(at place: String, _ application: Application) -> String {
    """
    location \(place) {
              rewrite ^/cgi(/.*)$ /sync$1 break;
              include "\(site.source)/snippets/forkloop-responder.conf";
              fastcgi_param SCRIPT_FILENAME   "\(tools.program)";
              fastcgi_param GATEWAY_INTERFACE CGI/1.1;
              fastcgi_param DB_HOST           "\(folders.database)";
              fastcgi_param DB_NAME           bench;
              fastcgi_param DB_USER           forkloop;
              fastcgi_param FORKLOOP_NO_ENV_FILE  1;
              fastcgi_param FORKLOOP_APPLICATION  \(application.rawValue);
              fastcgi_pass "unix:\(folders.run)/cgi.sock";
          }
    """
  }

  /// What may differ between runs.
  package struct NginxSetup: Equatable {
    /// Whether nginx takes answers off a responder's hands, however slowly their client reads.
    var isBuffering = true
    /// Whether the kernel keeps as little of an answer for a slow client as it does on a slow network; on loopback it
    /// takes megabytes.
    var hasSlowNetwork = false
  }

  /// Starts nginx anew where it is to be another.
  package func setNginx(_ setup: NginxSetup) throws(LocalStackError) {
    guard setup != nginxSetup else { return }
    stop(&nginx, SIGTERM)
    try startNginx(setup)
  }
}
