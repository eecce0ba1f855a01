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
// A credential that is over leads to the login: the server says so in the stream, or refuses to begin it again.
const logIn = () => {
  warn("Your credential does not hold any more.");
  location.reload();
};
document.addEventListener("htmx:sse:error", event =>
  event.detail.status === 401 ? logIn() : warn("No connection to the server: the page may be old."));
document.addEventListener("choreo-ended", logIn);

// An answer to a person stays above the page, also when the page comes anew: a refresh takes only its own error away.
function keepNote() {
  const notes = document.querySelectorAll("#main .written");
  if (notes.length) notice().replaceChildren(...notes);
}

let refreshFailed = false;
keepNote();
document.addEventListener("htmx:after:swap", event => {
  const context = event.detail?.ctx;
  const byForm = context?.sourceElement?.tagName === "FORM";
  if (context?.target?.id === "notice") refreshFailed = !byForm;
  if (context?.target?.id !== "main" || !context.response?.raw?.ok) return;
  if (byForm || refreshFailed) notice().replaceChildren();
  refreshFailed = false;
  keepNote();
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
