// Names and keys for parts of the theme that have none: the search dialog, the frames of copy buttons, wide tables
const search = document.querySelector(".md-search[role=dialog]");
if (search) search.setAttribute("aria-label", search.querySelector("input").getAttribute("aria-label"));
const mend = () => {
  document.querySelectorAll(".md-code__nav:not([role])").forEach(nav => nav.setAttribute("role", "presentation"));
  document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])").forEach(wrap => {  // wide tables: scrolled by keys, too
    if (wrap.scrollWidth > wrap.clientWidth) wrap.tabIndex = 0;
  });
};
new MutationObserver(mend).observe(document.body, {childList: true, subtree: true});
addEventListener("resize", mend);
mend();
