// Shows /openapi.json with whichever viewer the page has loaded, light or dark as the browser is.
const place = document.getElementById("docs");
const dark = matchMedia("(prefers-color-scheme: dark)");

// What a viewer would show wrong (an integer that a double can't hold) or as a wall of escapes (a pattern) is left out: the
// description beside it says the same in words.
function presentable(key, value) {
  if (key === "pattern" && typeof value === "string") return undefined;
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) return undefined;
  return value;
}

function tell(html) {
  place.innerHTML = `<p>${html} The API's description is at <a href="/openapi.json">/openapi.json</a>.</p>`;
}

// Calls `paint` with whether it is to be dark, now and whenever that changes.
function painted(paint) {
  dark.addEventListener("change", () => paint(dark.matches));
  paint(dark.matches);
}

// An answer with a number that a double can't hold is shown as it came, not parsed and written anew.
function exactAnswers() {
  const isExact = (text) => {
    let exact = true;
    JSON.parse(text, (key, value, { source } = {}) => {
      if (typeof value === "number" && source !== undefined && source !== String(value)) exact = false;
      return value;
    });
    return exact;
  };
  const shown = (Original, { React }) => (props) => {
    let { content, contentType } = props;
    try {
      if (!isExact(content)) contentType = "text/plain";
    } catch { /* It is no JSON. */ }
    return React.createElement(Original, { ...props, contentType });
  };
  return { wrapComponents: { responseBody: shown } };
}

function showSwaggerUI(spec) {
  painted((isDark) => document.documentElement.classList.toggle("dark-mode", isDark));
  const ui = SwaggerUIBundle({ spec, domNode: place, deepLinking: true, displayRequestDuration: true, tryItOutEnabled: true,
    plugins: [exactAnswers] });
  ui.specActions.updateUrl("/openapi.json");
}

const redocDark = {
  colors: {
    primary: { main: "#8ab4f8" }, success: { main: "#81c995" }, error: { main: "#f28b82" },
    text: { primary: "#e4e6e6", secondary: "#b7bcbf" }, gray: { 50: "#24292d", 100: "#2b3135" },
    border: { dark: "#5f6a70", light: "#3b4347" },
    responses: {
      success: { color: "#81c995", backgroundColor: "#17301f" }, error: { color: "#f28b82", backgroundColor: "#3a1d1d" },
      redirect: { color: "#fdd663", backgroundColor: "#332b12" }, info: { color: "#8ab4f8", backgroundColor: "#16253a" },
    },
  },
  schema: { nestedBackground: "#24292d", linesColor: "#8ab4f8", typeNameColor: "#b7bcbf", typeTitleColor: "#b7bcbf", requireLabelColor: "#f28b82" },
  sidebar: { backgroundColor: "#15191b", textColor: "#e4e6e6", activeTextColor: "#8ab4f8" },
  typography: { code: { color: "#f28b82", backgroundColor: "#2b3135" }, links: { color: "#8ab4f8" } },
};

function showRedoc(spec) {
  const options = { hideHostname: true, downloadUrls: [{ title: "Download", url: "/openapi.json" }] };
  painted((isDark) => Redoc.init(spec, { ...options, theme: isDark ? redocDark : {} }, place));
}

async function show(viewer) {
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    viewer(JSON.parse(await answer.text(), presentable));
  } catch (error) {
    tell(`The API's description can't be shown: ${error.message}.`);
  }
}

if (window.SwaggerUIBundle) {
  show(showSwaggerUI);
} else if (window.Redoc) {
  show(showRedoc);
} else {
  tell("The viewer is not installed: run <code>make assets</code>.");
}
