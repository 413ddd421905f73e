import { describeRaces } from "./races.ts";
import { standalone } from "./stage.ts";

describeRaces("one Redis", standalone);
