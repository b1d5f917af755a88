// Shows /openapi.json with whichever viewer the page has loaded.
const place = document.getElementById("docs");
if (window.SwaggerUIBundle) {
  SwaggerUIBundle({ url: "/openapi.json", domNode: place, deepLinking: true, displayRequestDuration: true, tryItOutEnabled: true });
} else if (window.Redoc) {
  Redoc.init("/openapi.json", { hideHostname: true }, place);
} else {
  place.innerHTML = "<p>The viewer is not installed: run <code>make assets</code>. The API's description is at " +
    '<a href="/openapi.json">/openapi.json</a>.</p>';
}
