// Claims by verdict: each pressed button adds its claims to what is shown; with none pressed all are.

function startFilter(box) {
  const buttons = [...box.querySelectorAll("button")];
  const papers = [...document.querySelectorAll("#verdicts .paper")];
  const claims = papers.flatMap((paper) => [...paper.querySelectorAll("[data-verdict]")]);
  const found = html("p", {class: "hint", role: "status"});
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const redraw = () => {
    const wanted = new Set(buttons.filter(pressed).map((button) => button.dataset.verdict));
    for (const claim of claims) claim.hidden = wanted.size > 0 && !wanted.has(claim.dataset.verdict);
    for (const paper of papers) paper.hidden = !paper.querySelector("[data-verdict]:not([hidden])");
    const shown = claims.filter((claim) => !claim.hidden).length;
    found.textContent = shown < claims.length ? `${shown} of ${claims.length} claims shown.` : `All ${claims.length} claims shown.`;
  };
  for (const button of buttons)
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(!pressed(button)));
      redraw();
    });
  box.hidden = false;
  box.after(found);
  redraw();
}

for (const box of document.querySelectorAll(".filter")) startFilter(box);
