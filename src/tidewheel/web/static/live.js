// Say on the page when the server can no longer be reached, and when it can again.
// The state that was read last stays on the page, marked as old.
"use strict";

const state = document.getElementById("state");

function reached(yes) {
  document.body.classList.toggle("lost", !yes);
  const word = document.querySelector(".live-word");
  if (word && !yes) word.textContent = "connection lost, state of";
}

state.addEventListener("htmx:error", () => reached(false));
state.addEventListener("htmx:after:request", (event) => reached(event.detail.ctx.response.status < 400));
state.addEventListener("htmx:after:swap", () => {
  reached(true);
  // A run that has ended does not change any more: the page as the server draws it now asks for nothing.
  if (document.querySelector("main[data-over]")) location.reload();
});
