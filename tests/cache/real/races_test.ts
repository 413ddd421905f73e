import { describeRaces } from "./_races.ts";
import { standalone } from "./_stage.ts";

describeRaces("one Redis", standalone);
