// Imports a module that its server does not have.
import { absent } from "https://deno.land/std@0.208.0/http/absent.ts";
console.log(absent);
