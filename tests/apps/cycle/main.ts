// Two modules import each other; each uses the other only once both are evaluated.
import { even } from "./even.ts";
console.log(even(10), even(7));
