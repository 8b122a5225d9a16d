"""The pieces of spelling that published TorToise reads, as its tokenizer merges them.

Each ``left+right`` is one merge of byte-pair encoding, in order of rank. From the original's ``tokenizer.json``
(Betker 2022, Apache-2.0); the weights mean these pieces and no others.
"""

MERGES = """
t+h i+n th+e a+n e+r o+u r+e o+n a+t e+d e+n t+o in+g an+d i+s a+s a+l o+r o+f a+r i+t e+s h+e s+t l+e o+m s+e b+e
a+d o+w l+y c+h w+h th+at y+ou l+i v+e a+c t+i l+d m+e w+as g+h i+d l+l w+i en+t f+or a+y r+o v+er i+c h+er k+e h+is
n+o u+t u+n i+r l+o w+e r+i h+a wi+th gh+t ou+t i+m i+on al+l a+b on+e n+e g+e ou+ld t+er m+o h+ad c+e s+he g+o s+h
u+r a+m s+o p+e m+y d+e a+re b+ut om+e f+r the+r f+e s+u d+o c+on t+e a+in er+e p+o i+f the+y u+s a+g t+r n+ow ou+n
th+is ha+ve no+t s+a i+l u+p th+ing fr+om a+p h+im ac+k at+ion an+t ou+r o+p li+ke u+st es+s b+o o+k u+l in+d e+x
c+om s+ome the+re er+s c+o re+s m+an ar+d p+l w+or w+ay ti+on f+o c+a w+ere b+y at+e p+ro t+ed oun+d ow+n w+ould t+s
wh+at q+u al+ly i+ght c+k g+r wh+en v+en c+an ou+gh in+e en+d p+er ou+s o+d id+e k+now t+y ver+y s+i a+k wh+o ab+out
i+ll the+m es+t re+d y+e c+ould on+g you+r the+ir e+m j+ust o+ther in+to an+y wh+i u+m t+w as+t d+er d+id i+e be+en
ac+e in+k it+y b+ack t+ing b+r mo+re a+ke p+p the+n s+p e+l u+se b+l sa+id o+ver ge+t
"""

MARKS = "!'(),-./:;?"
