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

// Times are in UTC, as the log has them; a button shows them in the browser's own zone, and says so.
const ZONE = "choreo-zone";
const isLocal = () => localStorage.getItem(ZONE) === "local";

function showTimes() {
  const format = new Intl.DateTimeFormat("sv", {dateStyle: "short", timeStyle: "medium"});
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = time.dateTime;
    time.textContent = isLocal() ? format.format(new Date(at)) : at.replace("T", " ");
  }
}

function offerZones() {
  const button = document.createElement("button");
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const label = () => { button.textContent = isLocal() ? `times in ${name}` : "times in UTC"; };
  button.type = "button";
  button.addEventListener("click", () => {
    localStorage.setItem(ZONE, isLocal() ? "utc" : "local");
    label();
    showTimes();
  });
  label();
  document.getElementById("zone").replaceChildren(button);
}

offerZones();
if (isLocal()) showTimes();
document.addEventListener("htmx:after:swap", () => { if (isLocal()) showTimes(); });
