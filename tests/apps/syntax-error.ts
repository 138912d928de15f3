// Cannot be parsed: nothing of it runs.
console.log("never printed");
const answer: number = ;
