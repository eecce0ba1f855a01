// The page's own script: small helps on top of pages that work without it.

const stamp = () => document.getElementById("stamp");
const notice = () => document.getElementById("notice");

function warn(text) {
  const span = document.createElement("span");
  span.className = "warning";
  span.textContent = text;
  stamp()?.replaceChildren(span);
}

// The stream is cut: the page says so until the next message; htmx connects again by itself.
document.addEventListener("htmx:sse:error", () => warn("No connection to the server: the page may be old."));
document.addEventListener("choreo-ended", () => {
  warn("Your credential does not hold any more.");
  location.reload();
});

// A page that came well takes the last error away.
document.addEventListener("htmx:after:swap", event => {
  const context = event.detail?.ctx;
  if (context?.target?.id === "main" && context.response?.raw?.ok) notice().replaceChildren();
});
