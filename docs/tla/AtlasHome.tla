---------------------------- MODULE AtlasHome ----------------------------
(* Home sets: phase 2 at ballot b uses only zones Home[b]; a "local" ballot *)
(* may run phase 1 inside the home set alone.  One configuration.           *)
(* Brought in line with package consensus, see README.md: the outstanding   *)
(* global promises are a short list that merges into a sticky one, a global *)
(* ballot that is given up is cancelled, and Learn brings what is chosen to *)
(* nodes outside of the home.                                               *)
EXTENDS Integers, Sequences, FiniteSets, TLC
CONSTANTS Nodes, MaxB, MaxLen, MaxG, Mut, Owner, Scope, Home, Zones, Fn, Fz   \* MaxG: how long the list may be (4 in the core)
Bal == 1..MaxB
None == [ba |-> -1, log |-> <<>>, g |-> -1]
FnOf(z) == LET cap == (Cardinality(z)-1) \div 2 IN IF Fn < cap THEN Fn ELSE cap
q1(z) == FnOf(z)+1
q2(z) == Cardinality(z)-FnOf(z)
IsQ1(S) == Cardinality({z \in Zones : Cardinality(S \cap z) >= q1(z)}) >= Cardinality(Zones)-Fz
IsQ2(b,S) == Cardinality({z \in Home[b] : Cardinality(S \cap z) >= q2(z)}) >= Fz+1
Mx(x,y) == IF x > y THEN x ELSE y
IsQL(b,S) == Cardinality({z \in Home[b] : Cardinality(S \cap z) >= q2(z)}) >= Mx(Fz+1, Cardinality(Home[b])-Fz)
Max(S) == CHOOSE x \in S : \A y \in S : y <= x
Min(S) == CHOOSE x \in S : \A y \in S : x <= y
IsPrefix(x,y) == Len(x) <= Len(y) /\ x = SubSeq(y,1,Len(x))
VARIABLES prom, ba, alog, acc,     \* acceptor state (durable)
          promG, stk,              \* global ballots above ba that were promised and not cancelled; those of them that stand for several
          prm, st, llog, sync
vars == <<prom,promG,stk,ba,alog,prm,acc,st,llog,sync>>
Init == /\ prom = [n \in Nodes |-> 0] /\ promG = [n \in Nodes |-> {}] /\ stk = [n \in Nodes |-> {}]
        /\ ba = [n \in Nodes |-> 0] /\ alog = [n \in Nodes |-> <<>>]
        /\ prm = [b \in Bal |-> [n \in Nodes |-> None]] /\ acc = [b \in Bal |-> [n \in Nodes |-> -1]]
        /\ st = [b \in Bal |-> "none"] /\ llog = [b \in Bal |-> <<>>] /\ sync = [b \in Bal |-> -1]
ChosenLen(b) == IF sync[b] = -1 THEN -1 ELSE
   LET ok == {L \in 0..Len(llog[b]) : IsQ2(b,{n \in Nodes : acc[b][n] >= L})}
   IN IF ok = {} THEN -1 ELSE CHOOSE L \in ok : \A M \in ok : M <= L
Prepare(b) == /\ st[b] = "none" /\ \A c \in Bal : (Owner[c] = Owner[b] /\ c > b) => st[c] = "none"
              /\ st' = [c \in Bal |-> IF c = b THEN "prep" ELSE IF Owner[c] = Owner[b] /\ st[c] # "none" THEN "done" ELSE st[c]]
              /\ UNCHANGED <<prom,promG,stk,ba,alog,prm,acc,llog,sync>>
\* A ballot that is given up before it is won is never resumed (D7), so that its promises may be forgotten one by one.
Abandon(b) == /\ st[b] = "prep" /\ st' = [st EXCEPT ![b] = "done"]
              /\ UNCHANGED <<prom,promG,stk,ba,alog,prm,acc,llog,sync>>
Cancel(b,n) == /\ st[b] = "done" /\ (sync[b] = -1 \/ Mut = "cancelwon") /\ b \in promG[n] \ stk[n]
               /\ promG' = [promG EXCEPT ![n] = @ \ {b}]
               /\ UNCHANGED <<prom,stk,ba,alog,prm,acc,st,llog,sync>>
\* The list with b in it: if that is one too many, the two lowest become the higher of them, which stays until ba passes it.
AddG(n,b) == LET all == promG[n] \cup {b} low == Min(all) next == Min(all \ {low})
             IN IF Cardinality(all) <= MaxG THEN [g |-> all, s |-> stk[n]]
                ELSE [g |-> all \ {low}, s |-> (stk[n] \ {low}) \cup (IF Mut = "notsticky" THEN {} ELSE {next})]
HighG(n) == IF promG[n] = {} THEN 0 ELSE Max(promG[n])
Promise(b,n) == /\ st[b] # "none" /\ b > prom[n]
                /\ (Scope[b] = "l" => \E z \in Home[b] : n \in z)
                /\ prom' = [prom EXCEPT ![n] = b]
                /\ IF Scope[b] = "g" THEN /\ promG' = [promG EXCEPT ![n] = AddG(n,b).g] /\ stk' = [stk EXCEPT ![n] = AddG(n,b).s]
                   ELSE UNCHANGED <<promG,stk>>
                /\ prm' = [prm EXCEPT ![b][n] = [ba |-> ba[n], log |-> alog[n], g |-> IF Mut = "promOnly" THEN prom[n] ELSE HighG(n)]]
                /\ UNCHANGED <<ba,alog,acc,st,llog,sync>>
Better(x,y) == x.ba > y.ba \/ (x.ba = y.ba /\ Len(x.log) >= Len(y.log))
Best(cand) == CHOOSE x \in cand : \A y \in cand : Better(x,y)
DoWin(b,cand) == LET best == Best(cand)
                 IN /\ llog' = [llog EXCEPT ![b] = best.log] /\ sync' = [sync EXCEPT ![b] = Len(best.log)]
                    /\ st' = [st EXCEPT ![b] = "won"] /\ UNCHANGED <<prom,promG,stk,ba,alog,prm,acc>>
WinG(b) == /\ Scope[b] = "g" /\ st[b] = "prep"
           /\ \E Q \in SUBSET {n \in Nodes : prm[b][n] # None} : IsQ1(Q) /\ DoWin(b, {prm[b][n] : n \in Q})
WinL(b) == /\ Scope[b] = "l" /\ st[b] = "prep"
           /\ \E Q \in SUBSET {n \in Nodes : prm[b][n] # None} :
                /\ IsQL(b,Q)
                /\ LET bs == Best({prm[b][n] : n \in Q}).ba IN
                     /\ bs # 0 /\ Home[bs] = Home[b]
                     /\ IF Mut = "ignoreprom" THEN TRUE ELSE \A n \in Q : LET p == prm[b][n].g IN IF p <= bs THEN TRUE ELSE (Mut = "promOnly" /\ Scope[p] = "l" /\ Home[p] = Home[b])
                /\ DoWin(b, {prm[b][n] : n \in Q})
Append1(b) == /\ st[b] = "won" /\ Len(llog[b]) < MaxLen /\ llog' = [llog EXCEPT ![b] = Append(@,b)]
              /\ UNCHANGED <<prom,promG,stk,ba,alog,prm,acc,st,sync>>
Accept(b,n,L) == /\ sync[b] # -1 /\ b >= prom[n]
                 /\ (IF Mut = "outside" THEN TRUE ELSE \E z \in Home[b] : n \in z)
                 /\ L \in sync[b]..Len(llog[b]) /\ (ba[n] < b \/ L > Len(alog[n]))
                 /\ prom' = [prom EXCEPT ![n] = b] /\ ba' = [ba EXCEPT ![n] = b] /\ alog' = [alog EXCEPT ![n] = SubSeq(llog[b],1,L)]
                 /\ promG' = [promG EXCEPT ![n] = {g \in @ : g > b}] /\ stk' = [stk EXCEPT ![n] = {g \in @ : g > b}]
                 /\ acc' = [acc EXCEPT ![b][n] = L] /\ UNCHANGED <<prm,st,llog,sync>>
\* Chosen entries without a vote, to any node: outside of the home this is the only way. It raises prom, and adds nothing to
\* promG, since no Q1 rests on it.
Learn(b,n,L) == /\ sync[b] # -1 /\ b >= prom[n] /\ L \in 1..ChosenLen(b) /\ ~IsPrefix(SubSeq(llog[b],1,L), alog[n])
                /\ prom' = [prom EXCEPT ![n] = b] /\ alog' = [alog EXCEPT ![n] = SubSeq(llog[b],1,L)]
                /\ UNCHANGED <<ba,promG,stk,prm,acc,st,llog,sync>>
Next == \/ \E b \in Bal : Prepare(b) \/ Abandon(b) \/ WinG(b) \/ WinL(b) \/ Append1(b)
        \/ \E b \in Bal, n \in Nodes : Promise(b,n) \/ Cancel(b,n)
        \/ \E b \in Bal, n \in Nodes, L \in 0..MaxLen : Accept(b,n,L) \/ Learn(b,n,L)
Spec == Init /\ [][Next]_vars
Pref(b) == SubSeq(llog[b],1,ChosenLen(b))
Agreement == \A b,c \in Bal : (b < c /\ ChosenLen(b) > 0 /\ ChosenLen(c) >= 0) => IsPrefix(Pref(b),Pref(c)) \/ IsPrefix(Pref(c),Pref(b))
LeaderComplete == \A b,c \in Bal : (b < c /\ sync[c] # -1 /\ ChosenLen(b) > 0) => IsPrefix(Pref(b), llog[c])
\* The list holds nothing that ba has passed, and no more than it may.
ListFits == \A n \in Nodes : Cardinality(promG[n]) <= MaxG /\ stk[n] \subseteq promG[n] /\ \A g \in promG[n] : g > ba[n]
===========================================================================
