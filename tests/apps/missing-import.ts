// Imports a file that does not exist.
import { absent } from "./absent.ts";
console.log(absent);
