// Elements. Words are put in as text, always: nothing that the API tells is ever read as HTML.

export function h(tag, about = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "hidden" || name === "disabled" || name === "checked") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inside.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

export const fill = (place, ...inside) => {
  place.replaceChildren(...inside.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return place;
};

/** The same, if it says anything new: what is pressed or focused while all stays as it is must not be taken away. */
export function put(place, ...inside) {
  const made = h("div", {}, inside);
  if (place.shown?.isEqualNode(made)) return;
  place.shown = made.cloneNode(true);
  fill(place, [...made.childNodes]);
}

export const by = (id) => document.getElementById(id);

/** A table that scrolls sideways by itself; cells are text or elements, columns `{name, number}`. */
export function table(columns, rows, about = {}) {
  const cell = (tag, column, inside) => h(tag, { class: column.number ? "n" : column.class }, inside);
  return h("div", { class: "wide" }, h("table", about,
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", { class: column.number && "n", scope: "col" }, column.name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((inside, i) => cell("td", columns[i], inside)))))));
}

export const pill = (word, tone) => h("span", { class: `pill ${tone}` }, word);

/** A message above the page, until it is closed; one of the same `key` takes the place of the last. */
export function notice(key, tone, ...inside) {
  const close = h("button", { type: "button", class: "plain", "aria-label": "Close", onclick: () => made.remove() }, "✕");
  const made = h("div", { class: `notice ${tone}`, "data-key": key }, h("div", {}, inside), close);
  const former = document.querySelector(`.notice[data-key="${key}"]`);
  if (former?.textContent === made.textContent) return; // it would be read out again
  former?.remove();
  by("notices").append(made);
}

export const unnotice = (key) => document.querySelector(`.notice[data-key="${key}"]`)?.remove();

/** What went wrong, in the words of the daemon. */
export const problem = (error) => [
  h("strong", {}, error.message), error.hint ? h("div", { class: "soft" }, `hint: ${error.hint}`) : null,
];

/** A button that asks back where it stands, without a dialog over the page: STOP ALL stays in reach. */
export function asking(label, question, yes, act, about = {}) {
  const place = h("span", { class: "asking" });
  const rest = (focus) => {
    const button = h("button", { type: "button", ...about, onclick: ask }, label);
    fill(place, button);
    if (focus) button.focus();
  };
  const ask = () => {
    const sure = h("button", { type: "button", class: "danger", onclick: () => { rest(true); act(); } }, yes);
    fill(place, h("span", {}, question), sure, h("button", { type: "button", onclick: () => rest(true) }, "Cancel"));
    sure.focus();
  };
  rest();
  return place;
}
