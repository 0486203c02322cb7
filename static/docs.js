// The search of the documentation, which shows what has all the words. Without this, everything is there to read.

const input = document.getElementById("search");
const found = document.getElementById("found");
const entries = [...document.querySelectorAll("article, .object")].map((element) => (
	{ element, id: element.id, text: element.textContent.toLowerCase() }));
const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link.parentElement]));

function search() {
	const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
	let count = 0;
	for (const { element, id, text } of entries) {
		element.hidden = !words.every((word) => text.includes(word));
		if (!element.hidden) count++;
		if (links.has(id)) links.get(id).hidden = element.hidden;
	}
	// What is not an entry, such as an introduction, is in the way of what was found.
	document.querySelector(".manual").classList.toggle("searched", words.length > 0);
	for (const section of document.querySelectorAll("section[id^=group-]")) {
		section.hidden = !section.querySelector("article:not([hidden])");
		links.get(section.id).hidden = section.hidden;
	}
	found.textContent = words.length ? `${count} of ${entries.length} entries` : "";
}

input.parentElement.hidden = false;
input.addEventListener("input", search);
input.addEventListener("keydown", (event) => {
	if (event.key === "Escape" && input.value) {
		input.value = "";
		search();
	}
});
// A link leads to what it names, found or not.
addEventListener("hashchange", () => {
	const target = document.getElementById(location.hash.slice(1));
	if (target?.checkVisibility() === false) {
		input.value = "";
		search();
		target.scrollIntoView();
	}
});
